"""backendkit on Flask, in ten lines. Run it, then try /greetings/Ada, /greetings/Nobody and /nowhere.

python examples/quickstart_flask.py
"""

from flask import Flask

import backendkit.flask
from backendkit.errors import NotFound
from backendkit.kit import Kit

app = Flask(__name__)
backendkit.flask.install(app, Kit.from_env())


@app.get("/greetings/<name>")
def greet(name: str) -> dict[str, str]:
    """Greet people, unless they are nobody."""
    if name == "Nobody":
        raise NotFound
    return {"greeting": f"Hello, {name}"}


if __name__ == "__main__":
    app.run(port=8000)
