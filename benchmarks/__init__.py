"""Benchmarks: ours beside others, one table a file, every figure of a table from one run.

    make bench                            every table, with the peers in an environment of their own
    python -m benchmarks.durable          one table, against whatever of the peers is installed here
    python -m benchmarks --quick          every table in a minute: shows that they work, not how fast anything is

How a figure is made
--------------------
Every contestant runs in a process of its own, so that nobody's threads, caches or garbage are in anybody else's
figures. A round asks each contestant once, one after the other; the next round does it again. What slows the machine
down for a while slows everybody down. A table shows medians over the rounds, and ratios of medians.

Only one figure is comparable across machines: the ratio. Every report begins with the machine's facts, the price of an
fsync among them, because that price is what durability costs.
"""
