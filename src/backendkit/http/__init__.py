"""What web adapters share, without any framework: request ids, and the frames for plain ASGI and WSGI.

Each is usable alone, around any application:

    from backendkit.errors import Errors
    from backendkit.http import AsgiFrame, WsgiFrame

    app = AsgiFrame(app, Errors())          # Starlette, Litestar, Quart, Django's ASGI handler, ...
    app = WsgiFrame(app, Errors())          # Bottle, Pyramid, Django's WSGI handler, ...

Every response then carries `X-Request-ID`, whatever `backendkit.core.context` binds belongs to the request, and an
exception that gets out of the application is answered by an envelope, and reported once.
"""

from backendkit.http.asgi import AsgiFrame
from backendkit.http.client import ClientAddress
from backendkit.http.ids import RequestIds
from backendkit.http.limit_asgi import AsgiLimits
from backendkit.http.limit_wsgi import WsgiLimits
from backendkit.http.limits import LimitRule, Visit, by_address, by_header, by_path
from backendkit.http.reporting import report
from backendkit.http.wsgi import WsgiFrame

__all__ = [
    "AsgiFrame",
    "AsgiLimits",
    "ClientAddress",
    "LimitRule",
    "RequestIds",
    "Visit",
    "WsgiFrame",
    "WsgiLimits",
    "by_address",
    "by_header",
    "by_path",
    "report",
]
