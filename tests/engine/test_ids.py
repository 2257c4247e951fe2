"""Flow ids sort as the flows were started, and go anywhere a file name or a URL goes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.engine.ids import ALPHABET, child_flow_id, new_flow_id, visit_of_child

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 with timezones


@given(MOMENTS, st.timedeltas(timedelta(milliseconds=1), timedelta(days=30000)))
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
