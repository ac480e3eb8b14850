"""Servers that start and stop together."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tests.ground.servers import Server


class Topology(ABC):
    """Some servers that form one service; a context manager: usable inside, all gone after."""

    def __init__(self) -> None:
        self.servers: list[Server] = []

    @property
    @abstractmethod
    def url(self) -> str:
        """The service as a URL, as an application's settings would name it."""

    @abstractmethod
    def _form(self) -> None:
        """Start the servers and return once the service is usable."""

    def start(self) -> Self:
        """Start it and return once it is usable; a failure leaves nothing running."""
        try:
            self._form()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill all servers and remove their data; closing twice does no harm."""
        for server in self.servers:
            server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, server: Server) -> Server:
        self.servers.append(server)
        return server

    def _logs(self) -> str:
        return "\n".join(f"--- {server}\n{server.log_tail(8)}" for server in self.servers)
