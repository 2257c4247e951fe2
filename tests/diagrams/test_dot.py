"""The Graphviz file is read by Graphviz, and holds the boxes and the arrows of the SVG."""

from __future__ import annotations

from typing import Any

import pygraphviz
import pytest
from systemprompt_cloud.diagrams.dot import dot
from systemprompt_cloud.diagrams.sketch import sketch
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import Context, Event, State, Verdict, on
from systemprompt_cloud.machines.every import MACHINES


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_graphviz_reads_the_file(machine: Machine[Any], full: bool) -> None:
    """It has a node for each box and an edge for each arrow."""
    graph: Any = pygraphviz.AGraph(string=dot(machine, full=full))
    drawn = sketch(machine, full=full)
    assert sorted(graph.nodes()) == sorted(box.id for box in drawn.boxes)
    assert sorted(graph.edges()) == sorted((arrow.source, arrow.target) for arrow in drawn.arrows)


class Went(Event, frozen=True):
    """It went on."""


def test_quotes_and_backslashes_are_text() -> None:
    """A meaning cannot end its label."""
    states = [State("waiting", 'say "no"\\ ]; x [label=y'), State("done", "it is done", verdict=Verdict.SUCCESS)]
    machine = Machine(
        "quoted", version=1, initial="waiting", context=Context, states=states, rows=[on(Went, "waiting", "done")]
    )
    graph: Any = pygraphviz.AGraph(string=dot(machine))
    assert len(graph.nodes()) == 3
    assert 'say "no"' in graph.get_node("waiting").attr["label"].replace('\\"', '"')
