"""The way out: SIGTERM first takes readiness down, and only then reaches the server, which lets running requests finish.

Servers stop accepting as soon as they hear of the signal, while balancers go on sending until the next probe has failed.
Between the two lies a pause that this helper puts there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from backendkit.core.checks import Duration, duration_us
from backendkit.core.clock import SECOND_US
from backendkit.core.health import Health


def drain_on_sigterm(health: Health, *, pause: Duration = 0.0) -> Callable[[], None]:
    """Have SIGTERM set `health.draining`, wait for `pause`, and go to whom it went before; return what undoes it.

    Call it in the process that serves, after the server has set its own handler: in a lifespan, as `backendkit.fastapi` does, or in
    gunicorn's `post_worker_init`. A second SIGTERM during the pause ends it. Outside the main thread, where no handler
    can be set, this does nothing.

    Args:
        health: whose readiness goes down.
        pause: how long requests are still accepted, a `timedelta` or seconds, 0 to 600 s: longer than the probes' period times
            the failures that the balancer waits for; shorter than the time after which the process is killed.
    """
    pause_us = duration_us("pause", pause, least_us=0, most_us=600 * SECOND_US)
    if threading.current_thread() is not threading.main_thread():
        return _nothing
    before = signal.getsignal(signal.SIGTERM)

    def draining(number: int, frame: FrameType | None) -> None:
        if pause_us and not health.draining:
            health.drain()
            # A signal once more, from a thread: handlers run in the main one, which is the server's.
            timer = threading.Timer(pause_us / SECOND_US, os.kill, (os.getpid(), signal.SIGTERM))
            timer.daemon = True
            timer.start()
            return
        health.drain()
        _pass_on(before, number, frame)

    signal.signal(signal.SIGTERM, draining)

    def undo() -> None:
        if signal.getsignal(signal.SIGTERM) is draining:
            signal.signal(signal.SIGTERM, before)

    return undo


def _pass_on(before: Any, number: int, frame: FrameType | None) -> None:
    if callable(before):
        before(number, frame)
    elif before != signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _nothing() -> None:
    """Undo what was not done."""
