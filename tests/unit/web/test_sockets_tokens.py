"""Websockets for those who are logged in: three places for a token, and an end when it expires."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket

from backendkit.core.clock import Clock, ManualClock, SystemClock
from backendkit.fastapi import install
from backendkit.fastapi.sockets import SocketGuard
from backendkit.http.tokens import CookiePolicy
from backendkit.kit import Kit
from backendkit.stores import MemoryStore
from backendkit.testing import SocketClosed
from backendkit.testing.asgi import AsgiClient
from backendkit.testing.faults import UNAVAILABLE
from backendkit.testing.faulty import FaultyStore
from backendkit.testing.sockets import AsgiSocket
from backendkit.tokens import KeyRing, Principal, SecretRing, TokenPolicy, Tokens, has_roles

COOKIES = CookiePolicy()


async def drain(socket: AsgiSocket) -> None:
    """Receive until the end."""
    while True:
        await socket.receive()


class Scene:
    """Two sockets behind FastAPI, and tokens for them."""

    def __init__(self, clock: Clock, *rules: Any, first: float | None = None) -> None:
        self.store = FaultyStore(MemoryStore(clock=clock))
        self.tokens = Tokens(
            keys=KeyRing.generate("HS256"), secret=SecretRing.generate(), issuer="i", audience="a", store=self.store,
            clock=clock, policy=TokenPolicy(check="session"),
        )  # fmt: skip
        self.ended: list[BaseException] = []
        self.watchers: list[asyncio.Task[Any]] = []
        app = FastAPI()
        install(app, Kit(clock=clock))
        guard = SocketGuard(self.tokens, *rules, cookies=COOKIES, first_message=first)

        @app.websocket("/echo")
        async def echo(websocket: WebSocket, user: Annotated[Principal, Depends(guard)]) -> None:
            await websocket.send_text(user.subject)
            while True:
                await websocket.send_text(await websocket.receive_text())

        @app.websocket("/chatter")
        async def chatter(websocket: WebSocket, user: Annotated[Principal, Depends(guard)]) -> None:
            try:
                while True:
                    await websocket.send_text(user.subject)
                    await asyncio.sleep(0)
            except RuntimeError as error:
                self.ended.append(error)
                raise

        @app.websocket("/leaver")
        async def leaver(websocket: WebSocket, _: Annotated[Principal, Depends(guard)]) -> None:
            assert isinstance(clock, Held)
            before = asyncio.all_tasks()
            await websocket.close()
            clock.go.set()
            await clock.woke.wait()
            await asyncio.wait([task for task in before if "_close_in_time" in repr(task)])
            self.watchers = [task for task in before if "_close_in_time" in repr(task)]

        @app.websocket("/faulty")
        async def faulty(_: Annotated[Principal, Depends(guard)]) -> None:
            raise RuntimeError("a mistake of the handler's own")

        self.client = AsgiClient(app)

    def play(self, part: Callable[["Scene"], Awaitable[None]]) -> None:
        """Play a part on a loop of its own."""
        asyncio.run(asyncio.wait_for(part(self), 30))


def test_a_token_comes_in_a_header_a_subprotocol_or_a_cookie() -> None:
    """A page has no headers for a socket; the subprotocol is answered, as it must be."""

    async def part(scene: Scene) -> None:
        token = scene.tokens.issue("ada").access_token
        own = {"Origin": "http://testserver", "Host": "testserver"}
        ways: list[tuple[dict[str, str], str | None]] = [
            ({"Authorization": f"Bearer {token}"}, None),
            ({"Sec-WebSocket-Protocol": f"bearer, {token}"}, "bearer"),
            ({**own, "Cookie": f"{COOKIES.access}={token}"}, None),
        ]
        for headers, chosen in ways:
            async with scene.client.websocket("/echo", headers=headers) as socket:
                assert (socket.accepted, socket.subprotocol) == (True, chosen)
                assert await socket.receive() == "ada"
                await socket.send("hello")
                assert await socket.receive() == "hello"

    Scene(SystemClock()).play(part)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer junk", "Cookie": "__Host-access=TOKEN"}, 401),
        ({"Sec-WebSocket-Protocol": "bearer, junk", "Authorization": "Bearer TOKEN"}, 401),
        ({"Sec-WebSocket-Protocol": "bearer"}, 401),
        ({"Origin": "https://evil.example", "Host": "testserver", "Cookie": "__Host-access=TOKEN"}, 403),
    ],
)  # fmt: skip
def test_what_is_refused_before_the_socket_opens_is_a_response(
    headers: dict[str, str], status: int
) -> None:
    """Another site's page among them: cookies travel with sockets from anywhere."""

    async def part(scene: Scene) -> None:
        token = scene.tokens.issue("ada").access_token
        sent = {name: value.replace("TOKEN", token) for name, value in headers.items()}
        async with scene.client.websocket("/echo", headers=sent) as socket:
            assert not socket.accepted
            assert socket.denial is not None
            assert socket.denial.status == status

    Scene(SystemClock()).play(part)


def test_rules_hold_for_sockets() -> None:
    """403 before it is open, 4403 after."""

    async def part(scene: Scene) -> None:
        token = scene.tokens.issue("ada").access_token
        headers = {"Authorization": f"Bearer {token}"}
        async with scene.client.websocket("/echo", headers=headers) as socket:
            assert socket.denial is not None
            assert socket.denial.status == 403
        async with scene.client.websocket("/echo") as socket:
            await socket.send(token)
            with pytest.raises(SocketClosed) as closed:
                await socket.receive()
            assert (closed.value.code, closed.value.reason) == (4403, "ACCESS_DENIED")

    Scene(SystemClock(), has_roles("admin"), first=30).play(part)


def test_the_first_message_may_be_the_token() -> None:
    """In time; junk closes with 4401, a store that is down with 1013: try again later."""

    async def part(scene: Scene) -> None:
        token = scene.tokens.issue("ada").access_token
        async with scene.client.websocket("/echo") as socket:
            await socket.send(token)
            assert await socket.receive() == "ada"
        for junk in ("junk", b"bytes"):
            async with scene.client.websocket("/echo") as socket:
                await socket.send(junk)
                with pytest.raises(SocketClosed) as closed:
                    await socket.receive()
                assert (closed.value.code, closed.value.reason) == (4401, "INVALID_TOKEN")
        scene.store.inject(UNAVAILABLE)
        async with scene.client.websocket("/echo") as socket:
            await socket.send(token)
            with pytest.raises(SocketClosed) as closed:
                await socket.receive()
            assert closed.value.code == 1013

    Scene(SystemClock(), first=30).play(part)


def test_who_says_nothing_is_not_waited_for() -> None:
    """Beyond the patience that was set."""

    async def part(scene: Scene) -> None:
        async with scene.client.websocket("/echo") as socket:
            with pytest.raises(SocketClosed) as closed:
                await socket.receive()
            assert (closed.value.code, closed.value.reason) == (4401, "NOT_AUTHENTICATED")

    Scene(SystemClock(), first=0.01).play(part)


def test_a_socket_ends_with_its_token(caplog: pytest.LogCaptureFixture) -> None:
    """With 4401, whether its handler waits or talks; neither is reported as a mistake."""

    async def part(scene: Scene) -> None:
        headers = {"Authorization": f"Bearer {scene.tokens.issue('ada').access_token}"}
        for path in ("/echo", "/chatter"):
            async with scene.client.websocket(path, headers=headers) as socket:
                with pytest.raises(SocketClosed) as closed:
                    await drain(socket)
                assert (closed.value.code, closed.value.reason) == (4401, "TOKEN_EXPIRED")
            scene.tokens.clock.step_wall(-900_000_000)  # type: ignore[attr-defined] # the manual clock
        assert "unhandled" not in caplog.text

    Scene(ManualClock()).play(part)


class Held(ManualClock):
    """A clock on which whoever sleeps goes on when told."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.woke = asyncio.Event()

    async def sleep_async(self, us: int) -> None:
        """Wait to be told."""
        await self.go.wait()
        self.woke.set()


def test_a_socket_that_has_closed_by_itself_is_not_closed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its token expires while its handler tidies up: nobody's mistake, and the client heard the handler's word."""
    clock = Held()

    async def part(scene: Scene) -> None:
        headers = {"Authorization": f"Bearer {scene.tokens.issue('ada').access_token}"}
        async with scene.client.websocket("/leaver", headers=headers) as socket:
            with pytest.raises(SocketClosed) as closed:
                await drain(socket)
            assert closed.value.code == 1000
            await clock.woke.wait()
        assert [watcher.exception() for watcher in scene.watchers] == [None]

    Scene(clock).play(part)
    assert "unhandled" not in caplog.text


def test_a_mistake_of_a_handler_stays_one(caplog: pytest.LogCaptureFixture) -> None:
    """It is not taken for the end of a token."""

    async def part(scene: Scene) -> None:
        headers = {"Authorization": f"Bearer {scene.tokens.issue('ada').access_token}"}
        async with scene.client.websocket("/faulty", headers=headers) as socket:
            with pytest.raises(SocketClosed) as closed:
                await socket.receive()
            assert closed.value.code == 1011
        assert "a mistake of the handler's own" in caplog.text

    Scene(SystemClock()).play(part)
