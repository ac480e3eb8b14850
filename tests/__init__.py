"""backendkit's tests."""
