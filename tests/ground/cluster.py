"""A Redis Cluster: masters that share the slots, replicas if wanted, slots that can be moved.

No formation takes less than two seconds: a node that has just started waits so long before it calls
the cluster usable (CLUSTER_WRITABLE_DELAY in cluster.c).
"""

from dataclasses import dataclass, field

from tests.ground.ports import HOST
from tests.ground.servers import Server
from tests.ground.slot_move import SlotMove
from tests.ground.slots import SLOTS, find_tag, key_slot
from tests.ground.topology import Topology
from tests.ground.waiting import eventually

NODE_TIMEOUT_MS = 1_500
SETTLED_WITHIN_S = 30.0

_DOUBTS = {"fail", "fail?", "handshake", "noaddr"}


@dataclass(frozen=True, slots=True)
class View:
    """What one node believes; nodes are named by their ports.

    `ranges` are (first slot, last slot, owner), `masters` are (replica, its master). `doubted` are
    the nodes that it does not reach or does not know yet; views that differ in nothing else are
    equal.
    """

    ranges: tuple[tuple[int, int, int], ...]
    masters: tuple[tuple[int, int], ...]
    doubted: frozenset[int] = field(compare=False)

    def owner(self, slot: int) -> int:
        """Return the port of the slot's owner; `LookupError` if it has none."""
        for first, last, port in self.ranges:
            if first <= slot <= last:
                return port
        raise LookupError(f"nobody owns slot {slot}")


class ClusterGroup(Topology):
    """A cluster of `masters * (1 + replicas)` nodes; the slots are shared out evenly.

    Args:
        masters: How many; three or more, else nobody can be voted out.
        replicas: How many for each master.
        node_timeout_ms: Silence after which a node counts as failed. Raise it where nothing should
            fail over, so that a busy machine does not look like a dead node.
        config: Lines of redis.conf for every node.
    """

    def __init__(
        self,
        *config: str,
        masters: int = 3,
        replicas: int = 0,
        node_timeout_ms: int = NODE_TIMEOUT_MS,
    ) -> None:
        super().__init__()
        self._founders = masters
        settings = (
            f"cluster-node-timeout {node_timeout_ms}",
            "cluster-require-full-coverage no",
            "cluster-replica-validity-factor 0",
            "cluster-allow-replica-migration no",
        )
        for _ in range(masters * (1 + replicas)):
            self._add(Server(*settings, *config, role="cluster"))

    @property
    def url(self) -> str:
        """`redis+cluster://host:port,host:port,host:port`."""
        hosts = (f"{HOST}:{node.port}" for node in self.servers[: self._founders])
        return f"redis+cluster://{','.join(hosts)}"

    def masters(self) -> list[Server]:
        """Return the living nodes that own slots."""
        owners = {port for _, _, port in self._view().ranges}
        return [node for node in self.servers if node.port in owners and node.alive]

    def replicas_of(self, master: Server) -> list[Server]:
        """Return the living replicas of a master."""
        pairs = self._view().masters
        return [n for n in self.servers if n.alive and (n.port, master.port) in pairs]

    def owner(self, slot: int) -> Server:
        """Return the node that owns a slot."""
        return self._node(self._view().owner(slot))

    def owner_of(self, key: bytes | str) -> Server:
        """Return the node that owns a key's slot."""
        return self.owner(key_slot(key))

    def tag_on(self, node: Server) -> str:
        """Return a hash tag, without braces, whose keys lie on this node."""
        view = self._view()
        return find_tag(lambda slot: view.owner(slot) == node.port)

    def begin_move(self, slot: int, to: Server) -> SlotMove:
        """Put a slot under way: then `migrate`, and `end` or `cancel`; see `SlotMove`."""
        move = SlotMove(slot, source=self.owner(slot), target=to, masters=self.masters())
        move.begin()
        return move

    def move_slot(self, slot: int, to: Server) -> None:
        """Move a slot with all its keys, and return once all nodes know."""
        move = self.begin_move(slot, to)
        while move.migrate():
            pass
        move.end()
        self.settle()

    def kill(self, node: Server) -> None:
        """Kill a node, without waiting for the others to notice."""
        node.kill()

    def failover(self, replica: Server) -> None:
        """Have a replica take the place of its master, which is well; return when all know."""
        eventually(lambda: replica.command("CLUSTER", "FAILOVER") == b"OK", f"{replica} is willing")
        self._await_master(replica)

    def failover_by_kill(self, master: Server) -> Server:
        """Kill a master that has replicas; return its heir once all living nodes know."""
        heirs = self.replicas_of(master)
        slot = next(first for first, _, port in self._view().ranges if port == master.port)
        self.kill(master)
        ports = {heir.port for heir in heirs}
        what = f"a replica of {master} owns slot {slot}"
        eventually(lambda: self._view(heirs[0]).owner(slot) in ports, what, detail=self._logs)
        self.settle()
        return self.owner(slot)

    def restart(self, node: Server) -> None:
        """Start a node that was killed, and return once all nodes see the same cluster."""
        node.restart()
        self.settle()

    def settle(self) -> None:
        """Return once all living nodes see the same usable cluster, and replicas follow."""
        eventually(
            self._settled, "the cluster is settled", within=SETTLED_WITHIN_S, detail=self._logs
        )

    def _form(self) -> None:
        for node in self.servers:
            node.launch()
        for node in self.servers:
            node.await_ready()
        founders = self.servers[: self._founders]
        for number, master in enumerate(founders):
            first = SLOTS * number // len(founders)
            last = SLOTS * (number + 1) // len(founders) - 1
            master.command("CLUSTER", "ADDSLOTSRANGE", first, last)
            # Equal epochs would be a conflict that the nodes settle by a slow exchange.
            master.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        self._introduce()
        self._replicate()
        self.settle()

    def _introduce(self) -> None:
        """Let every node meet every other: gossip alone would take a second or two longer."""
        for node in self.servers:
            for other in self.servers:
                if other is not node:
                    node.command("CLUSTER", "MEET", HOST, other.port, other.bus_port)

    def _replicate(self) -> None:
        for number, replica in enumerate(self.servers[self._founders :]):
            self._attach(replica, self.servers[number % self._founders].text("CLUSTER", "MYID"))

    def _attach(self, replica: Server, master_id: str) -> None:
        # An error until the replica has shaken hands with its master.
        eventually(
            lambda: replica.command("CLUSTER", "REPLICATE", master_id),
            f"{replica} knows its master",
            detail=self._logs,
        )

    def _await_master(self, node: Server) -> None:
        def promoted() -> bool:
            return any(port == node.port for _, _, port in self._view(node).ranges)

        eventually(promoted, f"{node} owns slots", detail=self._logs)
        self.settle()

    def _settled(self) -> bool:
        living = [node for node in self.servers if node.alive]
        ports = {node.port for node in living}
        views = [self._view(node) for node in living]
        agreed = len(set(views)) == 1 and not any(view.doubted & ports for view in views)
        return agreed and all(self._usable(node) for node in living)

    @staticmethod
    def _usable(node: Server) -> bool:
        replication = node.info("replication")
        return "cluster_state:ok" in node.text("CLUSTER", "INFO") and (
            replication["role"] == "master" or replication["master_link_status"] == "up"
        )

    def _view(self, node: Server | None = None) -> View:
        node = node or next(node for node in self.servers if node.alive)
        return parse_nodes(node.text("CLUSTER", "NODES"))

    def _node(self, port: int) -> Server:
        return next(node for node in self.servers if node.port == port)


def parse_nodes(text: str) -> View:
    """Return the view in a reply to CLUSTER NODES.

    A line is: id, host:port@bus, flags, master's id, ping sent, pong received, epoch, link,
    slots...; a slot under way is in brackets: https://redis.io/docs/latest/commands/cluster-nodes/
    """
    rows = [line.split() for line in text.splitlines()]
    ports = {row[0]: int(row[1].partition("@")[0].rpartition(":")[2]) for row in rows}
    ranges: list[tuple[int, int, int]] = []
    masters: list[tuple[int, int]] = []
    doubted: set[int] = set()
    for node, _, flags, master, _, _, _, _, *spans in rows:
        if _DOUBTS & set(flags.split(",")):
            doubted.add(ports[node])
        if master != "-":
            masters.append((ports[node], ports[master]))
        for span in spans:
            if not span.startswith("["):
                first, _, last = span.partition("-")
                ranges.append((int(first), int(last or first), ports[node]))
    return View(tuple(sorted(ranges)), tuple(sorted(masters)), frozenset(doubted))
