"""From an answer of ours to FastAPI's."""

from fastapi import Response

from examples.accounts.wire.reply import JSON, Reply


def respond(reply: Reply) -> Response:
    """Send a reply as it stands: its bytes are made, and FastAPI shall not make them again."""
    return Response(
        reply.body, reply.status, dict(reply.headers), media_type=JSON if reply.body else None
    )
