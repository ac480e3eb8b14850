"""Speed, measured beside what one would use instead: `python -m tests.benchmarks [NAME ...]`.

Not collected by the test suite: no test asserts a time. Each module with a `rows()` is one page of results.
"""
