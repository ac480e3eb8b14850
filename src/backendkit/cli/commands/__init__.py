"""The commands, one module each: see `backendkit.cli.main.Command`."""
