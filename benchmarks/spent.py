"""Processor time of a part of the work, without the garbage collector."""

from __future__ import annotations

import gc
import time

from .results import Cost


def began() -> float:
    """Begin to measure: the collector is off until `spent`, for it walks what is alive, whoever made it."""
    gc.collect()
    gc.disable()
    return time.process_time()


def spent(since: float) -> Cost:
    """Milliseconds of processor time since `began`, of all threads."""
    cost = Cost((time.process_time() - since) * 1e3)
    gc.enable()
    return cost
