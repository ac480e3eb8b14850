"""From an answer of ours to Flask's."""

from flask import Response

from examples.accounts.wire.reply import JSON, Reply


def respond(reply: Reply) -> Response:
    """Send a reply as it stands."""
    response = Response(reply.body, reply.status, dict(reply.headers), content_type=JSON)
    if not reply.body:
        del response.headers["Content-Type"]
    return response
