"""Programs that show how backendkit is used; start with the quickstarts, then read `accounts`."""
