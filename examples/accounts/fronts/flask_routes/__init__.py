"""Routes on Flask, one module a feature."""
