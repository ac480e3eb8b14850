"""Floor 0 of the house: values and rules that need nothing but Python's standard library.

Whatever stands here knows no store, no feature, no framework and no third-party package. Import the
modules, not this package: `from backendkit.core.operation import Operation`.
"""
