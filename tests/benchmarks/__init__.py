"""Measurements, each beside what one would use instead; not part of the suite.

A benchmark is a module `bench_<name>.py` with a function `main() -> None` that measures and prints its table.
"""
