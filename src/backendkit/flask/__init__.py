"""The adapter for Flask.

    import backendkit.flask

    app = Flask(__name__)
    backendkit.flask.install(app, Kit.from_env())

From then on every response carries a request id, and every error is told as one envelope. In a view,
`body(Model)`, `query(Model)` and `path(Model)` read and validate with pydantic, and fail as FastAPI's parameters do.
"""

from importlib import import_module

from backendkit.core.errors import MissingExtra

try:
    import_module("flask")
except ModuleNotFoundError as error:
    raise MissingExtra("backendkit.flask", "Flask", "flask") from error

from backendkit.flask.breakers import breakers_blueprint
from backendkit.flask.fragments import Fragments
from backendkit.flask.install import install
from backendkit.flask.limits import limit, limit_app, limited
from backendkit.flask.reading import body, path, query
from backendkit.http.cache_wsgi import WsgiCache
from backendkit.http.limit_wsgi import WsgiLimits

__all__ = [
    "Fragments",
    "WsgiCache",
    "WsgiLimits",
    "body",
    "breakers_blueprint",
    "install",
    "limit",
    "limit_app",
    "limited",
    "path",
    "query",
]
