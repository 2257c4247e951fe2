"""Every table, one after the other: `python -m benchmarks [--quick]`."""

from . import (
    command_line,
    decoding,
    durable,
    growth,
    latency,
    many,
    many_streams,
    memory,
    reading_back,
    steps,
    stream_latency,
)
from .measure import run_tables

if __name__ == "__main__":
    journal = [durable.table, steps.table, latency.table, many.table, memory.table, reading_back.table]
    run_tables([*journal, *growth.tables, decoding.table, stream_latency.table, many_streams.table, command_line.table])
