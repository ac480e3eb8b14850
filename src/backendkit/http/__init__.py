"""What web adapters share, without any framework: the frames for plain ASGI and WSGI, and each of their layers alone.

Each is usable alone, around any application:

    from backendkit.errors import Errors
    from backendkit.http import AsgiFrame, WsgiFrame

    app = AsgiFrame(app, Errors())          # Starlette, Litestar, Quart, Django's ASGI handler, ...
    app = WsgiFrame(app, Errors())          # Bottle, Pyramid, Django's WSGI handler, ...

Every response then carries `X-Request-ID`, whatever `backendkit.core.context` binds belongs to the request, and an
exception that gets out of the application is answered by an envelope, and reported once. `Layers` adds the access line,
security headers, deadlines, and the pages for probes; `http.alone_asgi` and `http.alone_wsgi` have each of them by itself.
"""

from backendkit.core.errors import DeadlineExceeded
from backendkit.http.asgi import AsgiFrame
from backendkit.http.cache_asgi import AsgiCache
from backendkit.http.cache_control import CacheControl
from backendkit.http.cache_rule import CacheRule, url_key
from backendkit.http.cache_wsgi import WsgiCache
from backendkit.http.client import ClientAddress
from backendkit.http.deadline import Deadlines, outgoing, remaining_us
from backendkit.http.drain import drain_on_sigterm
from backendkit.http.etags import etag_of, matches
from backendkit.http.health import HealthPages
from backendkit.http.ids import RequestIds
from backendkit.http.layers import Layers
from backendkit.http.limit_asgi import AsgiLimits
from backendkit.http.limit_checks import check_limits
from backendkit.http.limit_wsgi import WsgiLimits
from backendkit.http.limits import LimitRule, Visit, by_address, by_header, by_path
from backendkit.http.reporting import report
from backendkit.http.response_store import ResponseStore
from backendkit.http.responses import Asked
from backendkit.http.security import SecurityHeaders, use_security_headers
from backendkit.http.wsgi import WsgiFrame

__all__ = [
    "AsgiCache",
    "AsgiFrame",
    "AsgiLimits",
    "Asked",
    "CacheControl",
    "CacheRule",
    "ClientAddress",
    "DeadlineExceeded",
    "Deadlines",
    "HealthPages",
    "Layers",
    "LimitRule",
    "RequestIds",
    "ResponseStore",
    "SecurityHeaders",
    "Visit",
    "WsgiCache",
    "WsgiFrame",
    "WsgiLimits",
    "by_address",
    "by_header",
    "by_path",
    "check_limits",
    "drain_on_sigterm",
    "etag_of",
    "matches",
    "outgoing",
    "remaining_us",
    "report",
    "url_key",
    "use_security_headers",
]
