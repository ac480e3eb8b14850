"""Routes on FastAPI, one module a feature."""
