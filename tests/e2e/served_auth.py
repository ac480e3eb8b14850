"""Two small applications with logins for real servers: uvicorn serves `fastapi_app`, gunicorn `flask_app`."""

import os
from typing import Annotated, Any

import flask
from fastapi import Depends, FastAPI, Security, WebSocket

import backendkit.fastapi
import backendkit.flask
from backendkit.fastapi.sessions import session_router
from backendkit.fastapi.sockets import SocketGuard
from backendkit.fastapi.tokens import Guard as FastApiGuard
from backendkit.flask.sessions import session_blueprint
from backendkit.flask.tokens import Guard as FlaskGuard
from backendkit.flask.tokens import principal
from backendkit.http.login import Identity, Login
from backendkit.http.tokens import CookiePolicy
from backendkit.kit import Kit
from backendkit.logging import configure_logging
from backendkit.passwords import PasswordHasher, Profile
from backendkit.tokens import KeyRing, Principal, SecretRing, TokenPolicy

configure_logging(server_access=False)
kit = Kit()
policy = TokenPolicy(access=float(os.environ.get("SERVED_ACCESS_S", "900")))
tokens = kit.tokens(
    keys=KeyRing.generate(), secret=SecretRing.generate(), issuer="https://id", audience="api", policy=policy
)  # fmt: skip
hasher = PasswordHasher(Profile(memory_kib=1024, iterations=1), failure_time=0.05)
stored = hasher.hash("correct horse battery")
cookies = CookiePolicy(insecure=True)  # the servers of these tests speak plain http


def authenticate(login: Login) -> Identity | None:
    """Know Ada."""
    ada = login.username == "ada"
    ok = hasher.verify(stored if ada else None, login.password).ok
    return Identity(subject="user-ada", roles=["editor"]) if ok else None


fastapi_app = FastAPI()
backendkit.fastapi.install(fastapi_app, kit)
fastapi_app.include_router(session_router(tokens, authenticate, cookies=cookies))
user = FastApiGuard(tokens, cookies=cookies)
socket_user = SocketGuard(tokens, cookies=cookies, first_message=30)


@fastapi_app.get("/id")
async def fastapi_ready() -> Any:
    """Answer that the server is there."""
    return {}


@fastapi_app.post("/me")
async def fastapi_me(who: Annotated[Principal, Security(user)]) -> Any:
    """Return who asks."""
    return {"id": who.subject}


@fastapi_app.websocket("/feed")
async def feed(websocket: WebSocket, who: Annotated[Principal, Depends(socket_user)]) -> None:
    """Greet, and listen."""
    await websocket.send_text(who.subject)
    while True:
        await websocket.receive_text()


flask_app = flask.Flask("served")
backendkit.flask.install(flask_app, kit)
flask_app.register_blueprint(session_blueprint(tokens, authenticate, cookies=cookies))
guard = FlaskGuard(tokens, cookies=cookies)


@flask_app.get("/id")
def flask_ready() -> Any:
    """Answer that the server is there."""
    return {}


@flask_app.post("/me")
@guard()
def flask_me() -> Any:
    """Return who asks."""
    return {"id": principal().subject}
