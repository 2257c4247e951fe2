"""Moments for people: one way to say how far they are."""

from __future__ import annotations

import re

import pytest
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.cli.screen.times import dated, relative

from tests.support.command import CommandLine

NOW = parse_moment("2026-01-01T00:00:00Z")
FAR = r"(?:now|\d+ (?:second|minute|hour)s? ago)"


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2026-01-01T00:00:00.5Z", "now"),
        ("2026-01-01T00:00:01Z", "in 1 second"),
        ("2026-01-01T00:59:59Z", "in 59 minutes"),
        ("2026-01-01T03:10:00Z", "in 3 hours"),
        ("2026-01-03T01:00:00Z", "in 2 days"),
        ("2025-12-31T23:58:00Z", "2 minutes ago"),
        ("2025-12-31T23:00:00Z", "1 hour ago"),
        ("2025-11-01T00:00:00Z", "61 days ago"),
    ],
)
def test_relative(moment: str, shown: str) -> None:
    """How far a moment is, in its largest unit."""
    assert relative(parse_moment(moment), NOW) == shown


def test_dated() -> None:
    """Where one moment is shown, it is there in UTC too."""
    assert dated(parse_moment("2026-01-01T02:30:00+01:00"), NOW) == "2026-01-01 01:30:00 UTC (in 1 hour)"


def test_flows_have_relative_times_for_people_and_absolute_ones_for_programs(owner: tuple[CommandLine, str]) -> None:
    """In the list and of one flow; RFC 3339 in JSON."""
    cli, _ = owner
    head, first, *_ = cli("flows", "list").ended(0).out.splitlines()
    assert head.split() == ["ID", "MACHINE", "STATE", "STATUS", "CHANGED"]
    assert re.search(rf"  {FAR}$", first)
    shown = cli("flows", "show").ended(0).out
    assert re.search(rf"^Started:  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC \({FAR}\)$", shown, re.MULTILINE)
    for line in cli("flows", "list", "--json").ended(0).lines:
        assert parse_moment(line["updated"]).tzinfo is not None
        assert line["updated"].endswith("Z")
