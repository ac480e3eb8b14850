"""The smallest examples do what their first lines say."""

import httpx
import pytest

from examples import quickstart_fastapi, quickstart_flask
from examples.client.in_process import asgi_front, wsgi_front


@pytest.fixture(params=["fastapi", "flask"])
def client(request: pytest.FixtureRequest) -> httpx.Client:
    """A client of each quickstart in turn."""
    if request.param == "fastapi":
        return asgi_front("fastapi", quickstart_fastapi.app).client
    return wsgi_front("flask", quickstart_flask.app).client


def test_somebody_is_greeted_under_a_request_id(client: httpx.Client) -> None:
    """The application's own answer stays as it is, and gains an id."""
    response = client.get("/greetings/Ada")

    assert response.json() == {"greeting": "Hello, Ada"}
    assert response.headers["X-Request-ID"]


def test_an_error_that_a_handler_raises_is_told_in_the_envelope(client: httpx.Client) -> None:
    """No handler answers errors itself."""
    response = client.get("/greetings/Nobody")

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "NOT_FOUND")
    assert error["requestId"] == response.headers["X-Request-ID"]


def test_a_page_that_does_not_exist_is_told_in_the_same_envelope(client: httpx.Client) -> None:
    """The framework's own errors, too."""
    response = client.get("/nowhere")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND")
