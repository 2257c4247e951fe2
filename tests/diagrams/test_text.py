"""The terminal's pictures show the whole path, the whole tree and the whole table."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.base.columns import measure
from systemprompt_cloud.diagrams.text import draw_path, draw_table, draw_tree
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import CancelRequested, Context, State, Verdict, on
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.machines.onboarding import ONBOARDING
from systemprompt_cloud.machines.provisioning import PROVISIONING

from tests.support.histories import tell, walks

each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)

PROVISIONED: Final = tell(
    PROVISIONING,
    ("awaiting_tenant", "StepObserved", "Tenant registered"),
    ("awaiting_tenant", "StepObserved", "Database created"),
    ("asking_once_more", "DeadlinePassed", "the time is up"),
    ("overdue", "StillWorking"),
    ("awaiting_tenant", "WaitResumed"),
    ("fetching_secrets", "TenantBecameReady", "ready"),
    ("saving_tenant", "SecretsFetched"),
    ("#intent", "01abc:6:save_tenant"),
    ("#paused", "Io", "no space left on /home"),
    ("#resumed", "resumed"),
    ("ready", "TenantSaved"),
)


def test_a_path_is_drawn_as_written_here() -> None:
    """States, events with their messages, folded progress, effects, parking, resuming, times and the verdict."""
    assert (
        draw_path(PROVISIONING, PROVISIONED)
        == """\
           provisioning  01abc, 11.0 s, from 2026-03-01 12:00:00 UTC
   0.00 s  ● awaiting_tenant  waiting for the tenant
   2.00 s  │ 2 \N{MULTIPLICATION SIGN} StepObserved: Tenant registered · Database created
           ▼ DeadlinePassed: the time is up
   3.00 s  ● asking_once_more  the time is up: checking one last time
           ▼ StillWorking
   4.00 s  ● overdue  not ready in time: resume to wait longer
           ▼ WaitResumed
   5.00 s  ● awaiting_tenant  waiting for the tenant
           ▼ TenantBecameReady: ready
   6.00 s  ● fetching_secrets  fetching the tenant's secrets
           ▼ SecretsFetched
   7.00 s  ● saving_tenant  storing the tenant
           │ ◦ announced save_tenant
   9.00 s  │ ‖ paused, Io: no space left on /home
   10.0 s  │ ▸ resumed
           ▼ TenantSaved
   11.0 s  ✔ ready  the tenant is ready and stored  (success)
"""
    )


def test_what_repeats_is_counted() -> None:
    """A flow that was resumed twice in a row is drawn so, as an event that came twice is."""
    twice = tell(PROVISIONING, ("#resumed", "resumed"), ("#resumed", "resumed"))
    assert "2 x resumed" in draw_path(PROVISIONING, twice, ascii_only=True)


def test_a_path_can_be_drawn_in_ascii() -> None:
    """A terminal without Unicode gets the same picture in ASCII."""
    drawing = draw_path(PROVISIONING, PROVISIONED, ascii_only=True)
    assert drawing.isascii()
    assert "o awaiting_tenant" in drawing
    assert "2 x StepObserved: Tenant registered; Database created" in drawing
    assert "+ ready" in drawing


def test_where_a_flow_stands_is_marked_with_its_deadline() -> None:
    """The last state of an unfinished flow says that it stands there, and until when."""
    *before, last = tell(LOGIN, ("awaiting_callback", "AuthorizationOffered"))
    changes = [*before, msgspec.structs.replace(last, deadline="2026-03-01T12:05:00Z")]
    assert "◉ awaiting_callback" in draw_path(LOGIN, changes)
    assert "(is here, until 12:05:00 UTC)" in draw_path(LOGIN, changes, width=120)


def test_a_parked_flow_says_so() -> None:
    """A flow that waits for somebody to mend something is told from one that is running."""
    assert "(paused here)" in draw_path(LOGIN, tell(LOGIN, ("#paused", "Network", "no route to host")))


def test_a_failed_flow_is_drawn_as_failed() -> None:
    """The failure's mark, and why."""
    drawing = draw_path(LOGIN, tell(LOGIN, ("failed", "PortTaken", "port 8765 is taken")))
    assert "▼ PortTaken: port 8765 is taken" in drawing
    assert "✘ failed  the login failed  (failure)" in drawing


def test_a_servers_message_cannot_play_with_the_terminal() -> None:
    """Escape sequences and line breaks in a message are shown as spaces."""
    drawing = draw_path(LOGIN, tell(LOGIN, ("failed", "PortTaken", "a\x1b[2Jb\nc")))
    assert "▼ PortTaken: a [2Jb c\n" in drawing


def test_color_is_only_drawn_when_asked_for() -> None:
    """Stripped of its escape sequences, the coloured picture is the plain one."""
    assert "\x1b" not in draw_path(PROVISIONING, PROVISIONED)
    colored = draw_path(PROVISIONING, PROVISIONED, color=True)
    assert "\x1b[1;32m✔ ready\x1b[0m" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == draw_path(PROVISIONING, PROVISIONED)


def test_a_state_of_an_older_table_is_named_all_the_same() -> None:
    """A history is shown even where the table does not know it any more."""
    drawing = draw_path(LOGIN, tell(LOGIN, ("waiting_room", "Seated")))
    assert "▼ Seated" in drawing
    assert "waiting_room  not in this version of the machine" in drawing


def test_nothing_has_happened_yet() -> None:
    """An empty history has a picture too."""
    assert draw_path(LOGIN, []) == "nothing has happened yet\n"


def test_another_machines_history_is_refused() -> None:
    """A login's history is not drawn with the checkout's table."""
    with pytest.raises(ValueError, match="these changes are of login, not of checkout"):
        draw_path(CHECKOUT, tell(LOGIN))


def test_children_are_drawn_inside_the_state_that_ran_them() -> None:
    """A parent's picture holds its children's, indented, between the state and the event their end became."""
    parent = tell(ONBOARDING, ("logging_in", "CredentialsMissing"), ("cancelled", "ChildCancelled", "enough"))
    child = tell(LOGIN, ("cancelled", "CancelRequested", "enough"), flow="01abc.login-2", start=1.0)
    stranger = tell(LOGIN, flow="01xyz.login-2", start=1.0)
    assert (
        draw_tree(MACHINES, [parent, stranger, child])
        == """\
           onboarding  01abc, 2.00 s, from 2026-03-01 12:00:00 UTC
   0.00 s  ● checking_credentials  checking saved credentials
           ▼ CredentialsMissing
   1.00 s  ● logging_in  logging in
           │   ╭ login  01abc.login-2, 1.00 s
   1.00 s  │   ● requesting_authorization  preparing the login
           │   ▼ CancelRequested: enough
   2.00 s  │   ⊘ cancelled  the login was cancelled  (cancelled)
           ▼ ChildCancelled: enough
   2.00 s  ⊘ cancelled  it was cancelled  (cancelled)
"""
    )


def test_a_child_of_an_unknown_machine_is_left_out() -> None:
    """What cannot be drawn does not keep the rest from being drawn."""
    parent = tell(ONBOARDING, ("logging_in", "CredentialsMissing"))
    child = tell(LOGIN, flow="01abc.login-2", start=1.0)
    assert draw_tree([ONBOARDING], [parent, child]) == draw_path(ONBOARDING, parent)


@each_machine
def test_the_table_names_every_state_and_every_row(machine: Machine[Any]) -> None:
    """Every state with its meaning, every row with its destination."""
    drawing = draw_table(machine)
    for state in machine.states.values():
        assert state.name in drawing
        assert state.meaning in drawing
    lines = [line.split(maxsplit=1) for line in drawing.splitlines() if line.startswith("    ")]
    for row in machine.rows:
        assert any(
            line[0] == row.event.__name__ and (f"→ {row.to}" if row.to else "stays") in line[1] for line in lines
        ), row.label


def test_the_table_of_the_login_has_its_facts() -> None:
    """Timeouts, effects, guards and exceptions are told in words."""
    drawing = draw_table(LOGIN)
    assert "    timeout: the context's timeout, anew on resume\n" in drawing
    assert "    effect: replaces credentials.json\n    on resume: it is done again\n" in drawing
    assert "    TokenAccepted [callback_is_bound]   → saving_credentials\n" in drawing
    assert "→ cancelled  (not in reporting_login)\n" in drawing


@each_machine
@settings(max_examples=30)
@given(data=st.data(), width=st.integers(40, 120), ascii_only=st.booleans())
def test_any_path_fits_and_shows_where_it_went(
    machine: Machine[Any], data: st.DataObject, width: int, ascii_only: bool
) -> None:
    """Whatever way a flow went, every line fits the width and every state it was in is there."""
    changes = data.draw(walks(machine))
    drawing = draw_path(machine, changes, width=width, ascii_only=ascii_only)
    assert all(measure(line) <= width for line in drawing.splitlines())
    assert {change.to_state for change in changes} <= set(drawing.split())
    assert not ascii_only or drawing.isascii()


def test_many_levels_on_a_narrow_terminal_are_still_drawn() -> None:
    """Rails that leave no room for words do not stop the drawing, and no line is too wide."""
    flow, histories = "01abc", [tell(ONBOARDING, ("logging_in", "CredentialsMissing"))]
    nested = Machine(
        "login",
        version=1,
        initial="inside",
        context=Context,
        states=[State("inside", "one level more", child="login"), State("out", "out", verdict=Verdict.SUCCESS)],
        rows=[on(CancelRequested, "inside", "out")],
    )
    for _ in range(12):
        flow = f"{flow}.login-2"
        histories.append(tell(nested, flow=flow, start=1.0))
    drawing = draw_tree([ONBOARDING, nested], histories, width=40)
    assert all(measure(line) <= 40 for line in drawing.splitlines())
    assert drawing.count("│") > 12


def test_narrow_page_keeps_ids_and_messages_whole() -> None:
    """At 40 columns a message of some lines is wrapped, not cut, and a child's id stands on one line."""
    problem = "the API answered 503 with a page of its own, " * 9 + "and that was all"
    flow = "01m84t15x9qkabcdef.provisioning-4"
    began = tell(LOGIN, ("failed", "AuthorizationRefused", problem), flow=flow)
    drawing = draw_path(LOGIN, began, width=40)
    assert flow in drawing
    assert "…" not in drawing
    assert "was all" in drawing


def test_a_history_without_its_table_is_drawn_by_its_records() -> None:
    """States, events, effects and parking have names there; which states are ends, and what they mean, is not told."""
    lines = (("logging_in", "Begun"), ("#intent", "01abc:2:upload"), ("#paused", "Io", "no space"))
    child = tell(LOGIN, ("cancelled", "CancelRequested", "enough"), flow="01abc.login-2", start=1.0)
    assert (
        draw_tree([], [tell(ONBOARDING, *lines), child], tableless=True)
        == """\
           onboarding  01abc, 3.00 s, from 2026-03-01 12:00:00 UTC, drawn without its table
   0.00 s  ● checking_credentials
           ▼ Begun
   1.00 s  ◉ logging_in  (paused here)
           │ ◦ announced upload
   3.00 s  │ ‖ paused, Io: no space
           │   ╭ login  01abc.login-2, 1.00 s, drawn without its table
   1.00 s  │   ● requesting_authorization
           │   ▼ CancelRequested: enough
   2.00 s  │   ● cancelled
"""
    )


def test_an_abandoned_flow_does_not_stand_anywhere() -> None:
    """It ended where its table could not say so; nobody waits for it any more."""
    drawing = draw_path(LOGIN, tell(LOGIN, ("#abandoned", "abandoned", "its version is not known here")))
    assert "abandoned: its version is not known here" in drawing
    assert "is here" not in drawing
