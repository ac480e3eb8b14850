"""Pure decisions of logging: what is secret, what can be written, how a line looks. No clock, no I/O."""
