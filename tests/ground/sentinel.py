"""A master with replicas, watched by sentinels; fails over on command and when the master dies.

Redis is told to be quick: with the defaults, a failover takes the better part of a minute. What is
left is a random wait of up to one second before a sentinel stands for election
(SENTINEL_MAX_DESYNC).
"""

from tests.ground.ports import HOST
from tests.ground.resp import Reply, ReplyError
from tests.ground.servers import Server
from tests.ground.topology import Topology
from tests.ground.waiting import eventually

DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 3_000
SETTLED_WITHIN_S = 30.0

# Milliseconds, for SENTINEL DEBUG (Redis 7.0): how often sentinels look at servers and tell each
# other. "Tilt" is the 30 s in which a sentinel that was itself starved does nothing. No candidate is
# good whose INFO is older than 5 ping periods (the master being down) or 3 info periods, and while a
# failover is under way INFO is asked for once a second, whatever is set here: with a ping period of
# 0.1 s every other election ended in "no good slave".
_PERIODS = {
    "info-period": 500,
    "publish-period": 200,
    "ask-period": 200,
    "tilt-period": 1_000,
}


class SentinelGroup(Topology):
    """One master, its replicas, and sentinels that know it as `name`.

    Args:
        replicas: How many.
        sentinels: How many; a majority of them decides.
        name: The service's name.
        down_after_ms: Silence after which a server counts as down. Raise it where nothing should
            fail over, so that a busy machine does not look like a dead server.
        config: Lines of redis.conf for master and replicas.
    """

    def __init__(
        self,
        *config: str,
        replicas: int = 1,
        sentinels: int = 3,
        name: str = "main",
        down_after_ms: int = DOWN_AFTER_MS,
    ) -> None:
        super().__init__()
        self.name = name
        self._config = config
        self._replicas = replicas
        self._quorum = sentinels // 2 + 1
        self._down_after_ms = down_after_ms
        self.data = [self._add(Server(*config))]
        self.sentinels = [self._add(Server(role="sentinel")) for _ in range(sentinels)]

    @property
    def url(self) -> str:
        """`redis+sentinel://host:port,host:port,host:port/service`."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.name}"

    def master(self) -> Server:
        """Return the server that a majority of the sentinels takes for the master.

        Raises:
            LookupError: They do not agree.
        """
        ports = [self._master_port(sentinel) for sentinel in self.sentinels if sentinel.alive]
        for server in self.data:
            if ports.count(server.port) >= self._quorum:
                return server
        raise LookupError(f"no majority of sentinels agrees on a master: {ports}")

    def replicas(self) -> list[Server]:
        """Return the data servers that are alive and not the master."""
        master = self.master()
        return [server for server in self.data if server.alive and server is not master]

    def failover(self) -> Server:
        """Have a sentinel replace the master, which is well; return the new one when settled."""
        old = self.master()
        sentinel = next(sentinel for sentinel in self.sentinels if sentinel.alive)
        eventually(
            lambda: self._ordered(sentinel, old),
            f"{sentinel} fails over",
            within=SETTLED_WITHIN_S,
            every=0.1,
            detail=self._logs,
        )
        return self._new_master(old)

    def failover_by_kill(self) -> Server:
        """Kill the master; return the new one once all that live are settled.

        `restart` brings the old one back, as a replica.
        """
        old = self.master()
        old.kill()
        return self._new_master(old)

    def settle(self) -> None:
        """Return once sentinels agree, servers have their roles, and a failover could begin."""
        eventually(
            self._settled, "the group is settled", within=SETTLED_WITHIN_S, detail=self._logs
        )

    def restart(self, server: Server) -> None:
        """Start a server or sentinel that was killed, and return once the group has taken it in."""
        server.restart()
        if server in self.sentinels:
            self._hurry(server)
        self.settle()

    def _form(self) -> None:
        master = self.data[0].start()
        for _ in range(self._replicas):
            replica = Server(*self._config, f"replicaof {HOST} {master.port}")
            self.data.append(self._add(replica).launch())
        for sentinel in self.sentinels:
            sentinel.configure(*self._sentinel_config(master.port))
            sentinel.launch()
        for server in self.servers:
            server.await_ready()
        for sentinel in self.sentinels:
            self._hurry(sentinel)
        self.settle()

    def _sentinel_config(self, port: int) -> list[str]:
        return [
            f"sentinel monitor {self.name} {HOST} {port} {self._quorum}",
            f"sentinel down-after-milliseconds {self.name} {self._down_after_ms}",
            f"sentinel failover-timeout {self.name} {FAILOVER_TIMEOUT_MS}",
            f"sentinel parallel-syncs {self.name} {max(1, self._replicas)}",
        ]

    def _hurry(self, sentinel: Server) -> None:
        periods = [part for name, value in _PERIODS.items() for part in (name, value)]
        sentinel.command("SENTINEL", "DEBUG", *periods)

    def _ordered(self, sentinel: Server, old: Server) -> bool:
        """The sentinel has another master; else it is told to, again if it gave up on the way."""
        if self._master_port(sentinel) not in (old.port, None):
            return True
        # Refused (NOGOODSLAVE, INPROG) without a healthy replica, and while one is under way.
        sentinel.command("SENTINEL", "FAILOVER", self.name)
        return False

    def _new_master(self, old: Server) -> Server:
        def changed() -> Server | None:
            master = self.master()
            return master if master is not old else None

        eventually(changed, "another master is elected", within=SETTLED_WITHIN_S, detail=self._logs)
        self.settle()
        return self.master()

    def _settled(self) -> bool:
        master = self.master()
        living = [sentinel for sentinel in self.sentinels if sentinel.alive]
        replicas = self.replicas()
        return (
            master.info("replication")["role"] == "master"
            and all(self._follows(replica, master) for replica in replicas)
            and all(self._sees(sentinel, master, len(replicas)) for sentinel in living)
        )

    @staticmethod
    def _follows(replica: Server, master: Server) -> bool:
        info = replica.info("replication")
        seen = (info["role"], info["master_port"], info["master_link_status"])
        return seen == ("slave", str(master.port), "up")

    def _sees(self, sentinel: Server, master: Server, replicas: int) -> bool:
        """It sees this master healthy, the other sentinels, and so many healthy replicas."""
        view = _fields(sentinel.command("SENTINEL", "MASTER", self.name))
        listed = sentinel.command("SENTINEL", "REPLICAS", self.name)
        if not isinstance(listed, list):
            raise TypeError(f"no list of replicas: {listed!r}")
        healthy = [each for each in map(_fields, listed) if each["flags"] == "slave"]
        return (
            (view["port"], view["flags"]) == (str(master.port), "master")
            and int(view["num-other-sentinels"]) == len(self.sentinels) - 1
            and sum(each["master-link-status"] == "ok" for each in healthy) == replicas
        )

    def _master_port(self, sentinel: Server) -> int | None:
        try:
            reply = sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name, timeout=1.0)
        except (ReplyError, TimeoutError):
            return None
        return int(reply[1]) if isinstance(reply, list) and isinstance(reply[1], bytes) else None


def _fields(reply: Reply) -> dict[str, str]:
    if not isinstance(reply, list):
        raise TypeError(f"no list of names and values: {reply!r}")
    texts = [part.decode() for part in reply if isinstance(part, bytes)]
    return dict(zip(texts[::2], texts[1::2], strict=True))
