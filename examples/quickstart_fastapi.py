"""backendkit on FastAPI, in ten lines. Run it, then try /greetings/Ada, /greetings/Nobody and /nowhere.

python examples/quickstart_fastapi.py
"""

import uvicorn
from fastapi import FastAPI

import backendkit.fastapi
from backendkit.errors import NotFound
from backendkit.kit import Kit

app = FastAPI()
backendkit.fastapi.install(app, Kit.from_env())


@app.get("/greetings/{name}")
def greet(name: str) -> dict[str, str]:
    """Greet people, unless they are nobody."""
    if name == "Nobody":
        raise NotFound
    return {"greeting": f"Hello, {name}"}


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
