"""What can be wrong between a client and its server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What a `FaultProxy` does to connections; the default is nothing. Faults combine.

    Bytes that were swallowed are gone: a connection that lost some stays silent in that direction
    even after healing, because TCP never loses the middle of a stream. (A partition that *delays*
    bytes until it heals is `Server.paused`.)

    Attributes:
        delay_replies: Seconds that each reply's bytes are late; bytes stay in order.
        jitter: Up to so many seconds more or less of `delay_replies`, drawn anew for each chunk.
        delay_requests: Seconds that each request's bytes are late.
        lose_replies: Requests reach the server and are executed; replies are swallowed.
        blackhole: Bytes are swallowed in both directions; connections stay open, new ones are
            accepted.
        unreachable: As `blackhole`, and new connections are not even answered: connecting times
            out.
        reset: Connections get a TCP RST, those that exist at once, new ones as soon as they are
            accepted.
        refuse: As a dead server: connections are reset, new ones refused.
        truncate: So many more bytes of replies on each connection, then it is closed.
        one_byte: Replies come one byte a segment; who reads late may still find several at once.
        sever_after: So many more requests, counted over all connections, reach the server; the
            connection that brought the last of them is reset before its reply, and the fault is
            over. Plain text only.
    """

    delay_replies: float = 0.0
    jitter: float = 0.0
    delay_requests: float = 0.0
    lose_replies: bool = False
    blackhole: bool = False
    unreachable: bool = False
    reset: bool = False
    refuse: bool = False
    truncate: int | None = None
    one_byte: bool = False
    sever_after: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: A negative number, or `sever_after` of less than one request.
        """
        numbers = (self.delay_replies, self.jitter, self.delay_requests, self.truncate or 0)
        if min(numbers) < 0:
            raise ValueError(f"delays and sizes must not be negative: {self}")
        if self.sever_after is not None and self.sever_after < 1:
            raise ValueError(f"sever_after must be at least 1: {self.sever_after}")

    @property
    def swallow_requests(self) -> bool:
        """Nothing reaches the server."""
        return self.blackhole or self.unreachable

    @property
    def swallow_replies(self) -> bool:
        """Nothing comes back."""
        return self.lose_replies or self.swallow_requests

    @property
    def cut(self) -> bool:
        """No connection lives."""
        return self.reset or self.refuse


HEALTHY = Faults()
