"""The pure decisions of the breaker: what a window counts, and how a circuit moves."""
