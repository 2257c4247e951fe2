"""The Mermaid drawing holds the whole table, nothing but the table, and the path a flow took."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from systemprompt_cloud.diagrams.mermaid import escape, mermaid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.machines.provisioning import PROVISIONING

from tests.support.histories import tell

each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)

LOGIN_PATH: Final = tell(
    LOGIN,
    ("awaiting_callback", "AuthorizationOffered"),
    ("awaiting_callback", "BrowserOpened"),
    ("verifying_token", "CallbackReceived"),
    ("saving_credentials", "TokenAccepted"),
)


class Went(Event, frozen=True):
    """Something happened."""


def arrows(drawing: str) -> dict[tuple[str, str], list[str]]:
    """Every arrow with the events on it, entities read back, and states by their names."""
    found = re.findall(r"^    (?:s_)?(\S+) --> (?:s_)?(\S+) : (.*)$", drawing, re.MULTILINE)
    return {(source, to): unescape(label).removeprefix("stays: ").split("<br/>") for source, to, label in found}


def unescape(text: str) -> str:
    """What Mermaid shows for an escaped text."""
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text)


def test_the_login_is_drawn_as_written_here() -> None:
    """One drawing spelled out: changing how a machine is drawn is seen in review."""
    drawing = mermaid(LOGIN).splitlines()
    assert drawing[0] == "stateDiagram-v2"
    assert "    s_awaiting_callback : waiting for the browser to come back" in drawing
    assert "    [*] --> s_requesting_authorization" in drawing
    assert "    s_verifying_token --> s_saving_credentials : TokenAccepted [callback_is_bound]" in drawing
    assert "    s_awaiting_callback --> s_awaiting_callback : stays#58; BrowserOpened<br/>BrowserNotOpened" in drawing
    assert "    any_state --> s_cancelled : CancelRequested (not reporting_login)" in drawing
    assert "    class s_authenticated success" in drawing


@each_machine
def test_every_state_is_drawn_with_its_meaning(machine: Machine[Any]) -> None:
    """Name, meaning, verdict, child and timeout of every state are in the drawing."""
    drawing = unescape(mermaid(machine))
    for name, state in machine.states.items():
        assert f"    s_{name} : {name}\n" in drawing
        assert " ".join(re.findall(rf"^    s_{name} : (.*)$", drawing, re.MULTILINE)).startswith(
            f"{name} {' '.join(state.meaning.split())}"
        )
        if state.verdict:
            assert f"    s_{name} : end: {state.verdict}\n" in drawing
        if state.child:
            assert f"    s_{name} : runs: {', '.join(state.children)}\n" in drawing
        if state.timeout is not None:
            assert f"    s_{name} : timeout: " in drawing
        if state.effect is not None:
            assert f"    s_{name} : effect: {state.effect}\n" in drawing


@each_machine
def test_every_row_is_on_exactly_one_arrow_and_nothing_else_is(machine: Machine[Any]) -> None:
    """The arrows and the rows are the same set: the picture cannot drift from the table."""
    drawn = [
        (source, to, re.sub(r" \(not .*\)$", "", label))
        for (source, to), labels in arrows(mermaid(machine)).items()
        for label in labels
    ]
    rows = [(row.source, row.source if row.to is None else row.to, row.label) for row in machine.rows]
    assert sorted(drawn) == sorted(
        ("any_state" if source == ANY else source, "any_state" if to == ANY else to, label)
        for source, to, label in rows
    )


@each_machine
def test_the_same_table_gives_the_same_drawing(machine: Machine[Any]) -> None:
    """Nothing in the drawing depends on when or where it is made."""
    assert mermaid(machine) == mermaid(machine)


def test_the_path_is_marked_with_the_numbers_of_its_steps() -> None:
    """A taken arrow has a tick and its step's number, a loop the count, and arrows that were not taken have neither."""
    drawn = arrows(mermaid(LOGIN, changes=LOGIN_PATH))
    assert drawn["requesting_authorization", "awaiting_callback"] == ["✔ 1 AuthorizationOffered"]
    assert drawn["awaiting_callback", "awaiting_callback"][0] == "✔ 1 \N{MULTIPLICATION SIGN} BrowserOpened"
    assert drawn["awaiting_callback", "verifying_token"] == ["✔ 2 CallbackReceived"]
    assert drawn["verifying_token", "saving_credentials"] == ["✔ 3 TokenAccepted [callback_is_bound]"]
    assert sum("✔" in label for labels in drawn.values() for label in labels) == 4


def test_the_current_state_is_where_the_changes_end() -> None:
    """Visited states and the current one have their classes, and the current one says so in words too."""
    drawing = mermaid(LOGIN, changes=LOGIN_PATH).splitlines()
    assert "    class s_awaiting_callback visited" in drawing
    assert "    class s_saving_credentials current" in drawing
    assert "    s_saving_credentials : the flow is here" in drawing
    assert "    class s_denied visited" not in drawing


def test_an_end_keeps_the_colour_of_its_verdict() -> None:
    """A flow that ended is drawn with its last state in success or failure colours, not as one still running."""
    drawing = mermaid(LOGIN, current="denied").splitlines()
    assert "    class s_denied failure" in drawing
    assert "    s_denied : the flow ended here" in drawing
    assert "    class s_denied current" not in drawing


def test_an_arrow_taken_twice_has_both_numbers() -> None:
    """A time that ran out twice is one arrow with two numbers."""
    path = tell(
        PROVISIONING,
        ("asking_once_more", "DeadlinePassed"),
        ("overdue", "StillWorking"),
        ("awaiting_tenant", "WaitResumed"),
        ("asking_once_more", "DeadlinePassed"),
    )
    drawn = arrows(mermaid(PROVISIONING, changes=path))
    assert "✔ 1,4 DeadlinePassed" in drawn["awaiting_tenant", "asking_once_more"]


def test_a_row_for_any_state_is_marked_when_it_was_taken() -> None:
    """A cancelled flow shows the arrow from the box that stands for every state."""
    path = tell(PROVISIONING, ("cancelled", "CancelRequested"))
    assert arrows(mermaid(PROVISIONING, changes=path))["any_state", "cancelled"] == ["✔ 1 CancelRequested"]


def test_no_message_gets_into_the_drawing() -> None:
    """What a server said is not part of a machine's picture."""
    path = tell(PROVISIONING, ("awaiting_tenant", "StreamLost", "words of the server"))
    assert "words of the server" not in mermaid(PROVISIONING, changes=path)


def test_a_history_of_an_older_table_is_drawn_as_far_as_the_table_knows_it() -> None:
    """Events and states that are gone are left out; the drawing is still one of this table."""
    drawing = mermaid(PROVISIONING, changes=tell(PROVISIONING, ("waiting_room", "TenantLeft")))
    assert "waiting_room" not in drawing
    assert "    class s_awaiting_tenant visited" in drawing


def test_a_state_the_machine_does_not_have_is_refused() -> None:
    """Asking for a current state that does not exist is a mistake of the caller's, named."""
    with pytest.raises(ValueError, match="login has no state lobby"):
        mermaid(LOGIN, current="lobby")


def test_another_machines_history_is_refused() -> None:
    """A login's history is not drawn on the checkout's table."""
    with pytest.raises(ValueError, match="these changes are of login, not of checkout"):
        mermaid(CHECKOUT, changes=LOGIN_PATH)


def test_names_that_are_mermaids_keywords_get_other_identifiers() -> None:
    """A state may be called `default`, `end` or even `any_state`; it keeps its name in the label."""
    machine = Machine(
        "odd",
        version=1,
        initial="default",
        context=Context,
        states=[
            State("default", "at the start"),
            State("state_1", "has the name the first one would get"),
            State("any_state", "has the name of the box for all states"),
            State("two-words.2", "has a hyphen and a dot in it"),
            State("end", "is over", verdict=Verdict.SUCCESS),
        ],
        rows=[
            on(Went, "default", "state_1"),
            on(Went, "state_1", "any_state"),
            on(Went, "any_state", "two-words.2"),
            on(Went, "two-words.2", "end"),
            on(CancelRequested, ANY, STAY),
        ],
    )
    drawing = mermaid(machine)
    assert "    s_default : default\n" in drawing
    assert "    n_4 : two-words.2\n" in drawing
    assert "    s_end : end\n" in drawing
    assert "    s_default --> s_state_1 : Went\n" in drawing
    assert "    s_any_state --> n_4 : Went\n" in drawing
    assert "    n_4 --> s_end : Went\n" in drawing
    assert "    any_state --> any_state : stays#58; CancelRequested\n" in drawing


@pytest.mark.parametrize(
    "text",
    [
        "a: b; c",
        '"quoted" `code` <b>bold</b>',
        "%% not a comment #35; &lt;",
        "direction TB",
        "{braces} $$math$$ \\n",
        "_emphasis_ in~a~word, ~~struck~~",
    ],
)
def test_what_mermaid_would_read_as_syntax_is_escaped(text: str) -> None:
    """Escaped text holds no character of the syntax, and reads back as it was."""
    escaped = escape(text)
    assert not set(re.sub(r"#\d+;", "", escaped)) & set('#;:<>"`%&{}$\\')
    assert "direction TB" not in escaped
    assert unescape(escaped) == text


def test_line_breaks_do_not_break_a_label() -> None:
    """A label is one line of the diagram, whatever it was made from."""
    assert escape("one\n  two\ttwo") == "one two two"


def test_an_underscore_inside_a_word_is_left_as_it_is() -> None:
    """Names of guards are full of them, and Mermaid reads them as text."""
    assert escape("callback_is_bound") == "callback_is_bound"


def test_a_long_meaning_has_several_lines() -> None:
    """About sixty characters each; a longer word has a line of its own."""
    drawing = mermaid(meaning("one two three " * 20 + "x" * 200))
    lines = re.findall(r"^    s_waiting : (.*)$", drawing, re.MULTILINE)[1:]
    assert "x" * 200 in lines
    assert max(len(line) for line in lines if "x" not in line) <= 60


def test_a_text_that_mermaid_does_not_draw_says_so() -> None:
    """It draws at most fifty thousand characters."""
    assert "Mermaid draws at most 50,000" not in mermaid(meaning("x" * 40_000))
    second = mermaid(meaning("x" * 50_000)).splitlines()[1]
    assert re.fullmatch(r"    %% 5\d,\d{3} characters: Mermaid draws at most 50,000; draw an SVG instead", second)


def meaning(text: str) -> Machine[Any]:
    """A machine whose first state has this meaning."""
    states = [State("waiting", text), State("done", "it is done", verdict=Verdict.SUCCESS)]
    rows = [on(Went, "waiting", "done")]
    return Machine("other", version=1, initial="waiting", context=Context, states=states, rows=rows)
