"""A small service that keeps user accounts, behind FastAPI and behind Flask; its README.md is the map."""
