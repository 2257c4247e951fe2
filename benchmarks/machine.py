"""Facts about the computer and the installed peers, printed above the tables."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

FSYNCS: Final = 200
PEERS: Final = (
    "dbos",
    "harel",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "python-statemachine",
    "automat",
    "transitions",
    "httpx",
    "httpx-sse",
    "aiohttp-sse-client",
    "sseclient-py",
)


def facts(directory: Path) -> str:
    """A Markdown list: cores, Python, SQLite, the time of an fsync in `directory`, the peers' versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    fsync = fsync_seconds(directory)
    lines = [
        f"{cores} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"an fsync of a 4 KiB append to a file here takes {fsync * 1e6:,.0f} µs (median of {FSYNCS})",
        "peers: " + ", ".join(f"{name} {version(name)}" for name in PEERS),
    ]
    return "\n".join(f"- {line}" for line in lines)


def fsync_seconds(directory: Path) -> float:
    """The median time an fsync takes after 4 KiB were appended to a file in `directory`."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 4096)
            start = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def version(distribution: str) -> str:
    """The installed version, or "not installed"."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def installed(modules: tuple[str, ...]) -> bool:
    """Whether every one of these modules can be imported here."""
    return all(importlib.util.find_spec(name) is not None for name in modules)
