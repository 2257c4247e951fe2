"""While a question to a person is open, nothing is written over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from systemprompt_cloud.cli.screen import steady
from systemprompt_cloud.cli.screen.live import LivePeople
from systemprompt_cloud.cli.screen.render import People, time_left, up_to
from systemprompt_cloud.cli.shared.settings import Settings
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.parts.vocabulary import NOT_WANTED

AT = "2026-01-01T00:00:00Z"


def change(to_state: str = "confirming_tenant", event: str = "PaymentCompleted", **fields: str) -> Change:
    known = {"flow": "f", "at": AT, "machine": "checkout", "kind": "event", "from_state": "awaiting_payment"}
    return Change(seq=2, event=event, to_state=to_state, **(known | fields))


def unwrapped(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, however wide the terminal."""
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(params=[People, LivePeople])
def people(request: pytest.FixtureRequest, tmp_path: Path) -> People:
    """Both who show a flow to a person."""
    made: People = request.param(
        Settings(paths=CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="user"))
    )
    return made


def test_lines_wait_until_the_question_is_answered(people: People, capsys: pytest.CaptureFixture[str]) -> None:
    """Changes and notes come in their order after the answer; the moving line stands still."""
    with people as shown:
        with shown.paused():
            capsys.readouterr()
            shown.change(change())
            shown.note("a note")
            shown.tick()
            with shown.paused():  # another question, which is answered first
                shown.note("another")
            assert capsys.readouterr().err == ""
        said = capsys.readouterr().err
        found = [said.index(each) for each in ("payment reported", "a note", "another")]
        assert found == sorted(found)
        shown.note("at once")
        assert "at once" in capsys.readouterr().err


def test_an_address_is_shown_beside_the_question_about_it(people: People, capsys: pytest.CaptureFixture[str]) -> None:
    """`--paste` asks for the address a browser ended on: without the first address there is none."""
    with people as shown, shown.paused():
        shown.note("a note")
        capsys.readouterr()
        shown.invite("log in", "https://login.example/", again=False)
        said = capsys.readouterr().err
    assert said.startswith("\n")
    assert "https://login.example/" in said
    assert "a note" not in said


def test_lines_are_not_lost_with_a_question_that_is_withdrawn(
    people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    """The question is cancelled: what waited for its answer is printed, and the line moves again."""
    with people as shown:

        def ask() -> None:
            with shown.paused():
                shown.note("a note")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ask()
        assert "a note" in capsys.readouterr().err
        shown.change(change(deadline="2026-01-01T00:02:00Z"))
        shown.tick()
        assert "confirming the tenant with the API (up to 2 min)" in unwrapped(capsys)


@pytest.mark.parametrize(
    ("deadline", "said"),
    [
        ("2026-01-01T00:02:00Z", " (up to 2 min)"),
        ("2026-01-01T00:01:57.200000Z", " (up to 1 min 57 s)"),
        ("2026-01-01T00:00:10Z", " (up to 10 s)"),
        ("2025-12-31T23:00:00Z", " (up to 1 s)"),
    ],
)
def test_how_long_a_state_may_take(deadline: str, said: str) -> None:
    """In minutes and seconds; a time that is over is about to be noticed."""
    assert up_to(change(deadline=deadline)) == said
    assert up_to(change()) == ""
    assert time_left(change()) is None


def test_an_answer_is_not_called_none(
    people: People, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API that says "not found" has answered: what it said is shown, and not that there was no answer."""
    monkeypatch.setattr(steady, "SETTLE_SECONDS", 0.0)
    brief = "tenant_not_found: no tenant of yours has this id"
    refused = f"GET https://api.example/api/v1/tenants/t/status: {brief}"
    with people as shown:
        shown.change(change(event="StatusNotAnswered", from_state="confirming_tenant", message=refused, brief=brief))
        shown.tick()
    said = unwrapped(capsys)
    assert "No status from the API yet, asking again (tenant_not_found: no tenant of yours" in said
    assert "no answer" not in said


def test_a_browser_that_nobody_wanted_is_not_missed(people: People, capsys: pytest.CaptureFixture[str]) -> None:
    """Which it was, the event's code tells, whatever its words are; an event without one is from an older journal."""
    with people as shown:
        shown.change(change(event="BrowserNotOpened", message="some words", code=NOT_WANTED))
        shown.change(change(event="BrowserNotOpened", message="there is no display here"))
    said = unwrapped(capsys)
    assert "some words" not in said
    assert "no browser was opened: there is no display here" in said
