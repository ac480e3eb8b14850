"""Audit events: who did what to which, and how it ended. Never sampled, never filtered by level, never queued."""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeAlias

from backendkit.core import context
from backendkit.logging.bridge import Structured
from backendkit.logging.configure import configured

LOGGER = "backendkit.audit"
"""The name under which audit events are told."""

Outcome: TypeAlias = Literal["success", "failure", "denied"]
"""How an action ended: done; tried, and failed; refused."""


def audit(
    action: str, target: str, outcome: Outcome, *, actor: str | None = None, **fields: Any
) -> bool:
    """Write one audit event; return whether the system has taken it. Never raises.

    It goes to the `audit_stream` of the configuration, as JSON, else among the other lines; where logging was not configured
    here, to the logger `backendkit.audit` of the standard library. It is written by the time this returns, but no
    `fsync` is made: a machine that loses its power may lose it.

    Args:
        action: what was done, like `user.delete`.
        target: what it was done to, like `user:42`.
        outcome: how it ended.
        actor: who did it; None: the `user_id` that is bound.
        **fields: what else is to be said; redacted as everywhere.
    """
    said: dict[str, Any] = {**fields, "action": action, "target": target, "outcome": outcome}
    around = context.fields()
    said["actor"] = around.get("user_id") if actor is None else actor
    found = configured()
    if found is not None:
        return found.audit.record("info", "audit", said, logger=LOGGER, context_fields=around)
    try:
        logger = logging.getLogger(LOGGER)
        logger.info(Structured("audit", {**around, **said}))
        return logger.isEnabledFor(logging.INFO) and logger.hasHandlers()
    except Exception:  # noqa: BLE001 - somebody else's handler
        return False
