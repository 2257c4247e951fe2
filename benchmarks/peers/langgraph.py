"""LangGraph with its SQLite checkpointer, `durability="sync"`: every step is committed before the next one begins.

The synchronous saver is its fastest here: the asynchronous one is slower, more threads change nothing. It sets WAL
itself and leaves `synchronous` at SQLite's default, FULL. LangGraph also writes a checkpoint for the input and one
for the start; both are counted as transitions, in its favour.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any, TypedDict

from ..results import Run


class Counted(TypedDict):
    """The state of the graph."""

    n: int


def transitions(directory: Path, flows: int, transitions: int) -> Run:
    """So many threads of the graph (LangGraph's word for a flow), run to their ends one after the other."""
    graph = importlib.import_module("langgraph.graph")
    saver = importlib.import_module("langgraph.checkpoint.sqlite").SqliteSaver
    each = max(1, transitions // flows - 2)

    def tick(state: Counted) -> Counted:
        return {"n": state["n"] + 1}

    def leads_to(other: str) -> Any:
        def next_node(state: Counted) -> Any:
            return other if state["n"] < each else graph.END

        return next_node

    builder = graph.StateGraph(Counted)
    builder.add_node("even", tick)
    builder.add_node("odd", tick)
    builder.add_edge(graph.START, "even")
    builder.add_conditional_edges("even", leads_to("odd"), ["odd", graph.END])
    builder.add_conditional_edges("odd", leads_to("even"), ["even", graph.END])
    with saver.from_conn_string(str(directory / "langgraph.sqlite")) as checkpointer:
        checkpointer.setup()
        compiled = builder.compile(checkpointer=checkpointer)
        start = time.perf_counter()
        for number in range(flows):
            config = {"configurable": {"thread_id": str(number)}, "recursion_limit": each + 10}
            compiled.invoke({"n": 0}, config, durability="sync")
        return Run(flows, time.perf_counter() - start, flows * (each + 2))
