"""Benchmarks of this package and its peers: one table per file, every figure of a table from one run.

    make bench                            every table, with the peers in a separate environment
    python -m benchmarks.durable          one table, with the peers that are installed
    python -m benchmarks --quick          every table in a minute, to check that they work; its figures mean nothing

Method
------
Every contestant runs in its own process, so that its threads, caches and garbage do not affect the others. A round
measures each contestant once, one after the other, so that a temporary slowdown of the machine affects all of them. A
table shows medians over the rounds, and ratios of medians.

Only the ratios are comparable across machines. Every report begins with facts about the machine, including the time of
an fsync, which is most of the cost of durability.
"""
