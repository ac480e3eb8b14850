"""One front of the service, as a client meets it: requests go in, answers come out."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from examples.client.server import Server

JSON = "application/json"
PROBLEM = "application/problem+json"
REQUEST_ID = "x-request-id"
NO_ANSWER = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sends.

    Attributes:
        method: `GET`, `POST`, ...
        path: with its query; `{name}` is filled in from what earlier scenes kept, as in headers and in `json`.
        json: sent as a JSON body; None sends none.
        body: sent as it stands, as if it were JSON; for what no JSON encoder would write.
        headers: beside those that follow from the body.
    """

    method: str
    path: str
    json: object = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes | None:
        """The body as bytes, or None."""
        if self.json is None:
            return self.body
        return json.dumps(self.json, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: as an integer; `NO_ANSWER` if there was none.
        headers: by name in lower case.
        body: all of it.
        path: what was asked for, with everything filled in.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    path: str = ""

    @property
    def request_id(self) -> str:
        """The id that the answer carries, or an empty string."""
        return self.headers.get(REQUEST_ID, "")

    @property
    def data(self) -> object:
        """The body as JSON says it, or None where it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Front:
    """A running front.

    Attributes:
        name: what the transcript calls it.
        client: knows its address, or its application.
        server: the process behind it, for scenes that stop it or look into its log; None in this process.
        kept: values that scenes took from answers, for the requests of later scenes.
    """

    name: str
    client: httpx.Client
    server: Server | None = None
    kept: dict[str, str] = field(default_factory=dict)

    def send(self, request: Request) -> Answer:
        """Send a request and read the whole answer. Safe to call from several threads.

        A front that does not answer makes no exception but an answer with the status `NO_ANSWER`, whose body says
        why, so that the transcript goes on and tells it.
        """
        content = request.content
        headers = {name: self._filled(value) for name, value in request.headers.items()}
        if content is not None:
            headers.setdefault("Content-Type", JSON)
        if request.json is not None and content is not None:
            content = self._filled(content.decode()).encode()
        path = self._filled(request.path)
        try:
            response = self.client.request(request.method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            return Answer(NO_ANSWER, {}, f"{type(error).__name__}: {error}".encode(), path)
        return Answer(response.status_code, dict(response.headers.items()), response.content, path)

    def _filled(self, text: str) -> str:
        return _PLACE.sub(lambda place: self.kept.get(place[1], place[0]), text)


_PLACE = re.compile(r"\{(\w+)\}")
