"""Flow ids sort as the flows were started, and go anywhere a file name or a URL goes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st
from systemprompt_cloud.engine.ids import (
    ALPHABET,
    LONGEST,
    child_flow_id,
    child_parts,
    new_flow_id,
    parent_part,
    plain_child_flow_id,
    visit_of_child,
)

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 with timezones


@given(MOMENTS, st.timedeltas(timedelta(milliseconds=1), timedelta(days=30000)))
@example(datetime(2243, 1, 1, tzinfo=UTC), timedelta(milliseconds=1))  # a float was a millisecond short
def test_ids_sort_by_time(moment: datetime, later: timedelta) -> None:
    """A listing ordered by id is ordered by start."""
    assert new_flow_id(moment) < new_flow_id(moment + later)


@given(MOMENTS)
def test_ids_are_safe_in_urls_and_file_names(moment: datetime) -> None:
    """Eighteen letters and digits of Crockford's base 32, none of which looks like another."""
    assert re.fullmatch(f"[{ALPHABET}]{{18}}", new_flow_id(moment))
    assert not set("ilou") & set(ALPHABET)


def test_ids_of_one_moment_differ() -> None:
    """Forty random bits."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({new_flow_id(now) for _ in range(1000)}) == 1000


@given(st.sampled_from(("login", "check-out", "m-1", "a.b")), st.integers(1, 10**9))
def test_a_child_is_found_by_its_parents_visit(machine: str, visit: int) -> None:
    """The id says which visit it belongs to, whatever its machine and its parent are called."""
    child = child_flow_id("01abc.outer-3", machine, visit)
    assert child.startswith("01abc.outer-3.")
    assert child == child_flow_id("01abc.outer-3", machine, visit)
    assert visit_of_child(child) == visit


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("login", "check-out", "m-1", "a.b", "m" * 64)),
            st.integers(1, 10**9),
            st.one_of(st.none(), st.text(max_size=3)),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_ids_stay_short_however_deep(path: list[tuple[str, int, str | None]]) -> None:
    """Every id of a chain is bounded, begins as the outermost flow's, says its visit, and belongs to its parent."""
    root = flow = "01jq0000000000ab"
    seen = {root}
    for machine, visit, key in path:
        child = child_flow_id(flow, machine, visit, key)
        assert len(child) <= LONGEST
        assert child.startswith(f"{root}.")
        assert visit_of_child(child) == visit
        assert parent_part(child, machine) in child_parts(flow)
        assert child not in seen
        seen.add(child)
        flow = child


def test_ids_that_are_short_enough_are_what_they_were() -> None:
    """Flows that are stored are found by their visit as before, down to some levels."""
    flow = "01jq0000000000ab"
    for level in range(1, 5):
        child = child_flow_id(flow, "provisioning", level, "k")
        assert child == plain_child_flow_id(flow, "provisioning", level, "k")
        flow = child


def test_a_child_is_told_from_a_grandchild() -> None:
    """Also where names have dots and dashes."""
    top = "01jq0000000000ab"
    child = child_flow_id(top, "a-1", 1)
    inner = child_flow_id(child, "b", 2)
    assert parent_part(inner, "b") == child
    assert parent_part(child_flow_id(top, "x.y", 3, "k"), "x.y") == top
    deep = child_flow_id("x" * LONGEST, "b", 2)
    assert parent_part(deep, "b") in child_parts("x" * LONGEST)
    assert parent_part(deep, "b") not in child_parts("y" * LONGEST)
