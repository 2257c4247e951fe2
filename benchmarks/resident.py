"""How much memory this process takes."""

from __future__ import annotations

import gc
import os
from pathlib import Path


def resident_bytes() -> int:
    """The resident set now, after a garbage collection. Linux only."""
    gc.collect()
    (_, pages, *_) = Path("/proc/self/statm").read_text().split()
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
