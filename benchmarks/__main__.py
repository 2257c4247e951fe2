"""Every table, one after the other: `python -m benchmarks [--quick]`."""

from . import durable, latency, many, memory, steps
from .measure import run_tables

if __name__ == "__main__":
    run_tables([durable.table, steps.table, latency.table, many.table, memory.table])
