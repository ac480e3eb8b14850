"""Calling what may fail: a circuit breaker's rules, and a machine that keeps them."""

from backendkit.resilience.policy import BreakerPolicy

__all__ = ["BreakerPolicy"]
