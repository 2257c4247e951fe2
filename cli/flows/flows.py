"""`flows`: list, inspect, resume and cancel the flows of the journal.

`list`, `show` and `history` only read the file. `resume` and `cancel` open an engine.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from ...base.errors import EXIT_DONE, EXIT_FAILED, EXIT_PENDING
from ...engine.errors import FlowNotFound, IncompatibleFlow
from ..screen.asides import mention_journals_set_aside
from ..screen.terminal import clean, put, put_done, put_json, put_paged, put_table, say, shortened
from ..shared.arguments import known_path
from ..shared.bounds import MOST, whole_number
from ..shared.completion import MACHINES, complete_flows, complete_from
from ..shared.names import CLI
from ..shared.options import Decorator, check_paste, no_browser_option, paste_option, qr_option, warn_unbound
from ..shared.parameters import Argument, Command, checking
from ..shared.settings import Settings, choose_api, refuse_untrusted, settings_of
from ..tools.findings import counted, put_problems
from .status import (
    IN_WORDS,
    KNOWN,
    STORED,
    Known,
    ago,
    as_json,
    begins_of,
    doing_of,
    driver_of,
    ended_as,
    problem_of,
    refused_of,
    resume_of,
    shown_status,
    waiting_of,
    way_on_of,
    when,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...engine.engine import Engine
    from ...engine.flow import Flow
    from ...engine.journal.journal import Journal
    from ...engine.journal.records import FlowRow, Status

CANCEL_SECONDS = 5.0
CANCEL_TICK = 0.1

id_argument = click.argument(
    "flow", cls=Argument, metavar="ID", shell_complete=complete_flows, about="The flow's id, or its beginning."
)


def open_journal(settings: Settings) -> Journal:
    """The journal, if there is one. Raises `FlowNotFound`."""
    from ...engine.journal.journal import Journal

    return Journal(settings.paths.journal, create=False)


def optional_id(about: str) -> Decorator:
    """The argument for a flow that need not be named."""
    return click.argument(
        "flow", cls=Argument, metavar="ID", required=False, shell_complete=complete_flows, about=about
    )


@click.command("list", cls=Command, epilog=f"Example: {CLI} flows list --status paused --status interrupted")
@click.option(
    "--status",
    metavar="STATUS",
    multiple=True,
    help="running (a process drives it), waiting (it needs no process), interrupted, paused, queued, ended; "
    "or how it ended: success, failure, cancelled. Repeatable.",
)
@click.option("--machine", metavar="NAME", shell_complete=complete_from(MACHINES), help="Only this machine's.")
@click.option("--limit", type=whole_number(1, MOST), default=20, metavar="N", help="At most so many.")
@click.option("--children", is_flag=True, help="Also those that run inside another flow.")
@click.pass_context
def list_flows(
    context: click.Context, status: tuple[str, ...], machine: str | None, limit: int, children: bool
) -> None:
    """List flows, the newest first.

    With --json a flow's `status` is `running`, `resting` (waiting), `interrupted`, `paused`, `queued` or `ended`;
    its `verdict` is `success`, `failure` or `cancelled` once it has ended. The table shows the verdict of those that
    have.
    """
    settings = settings_of(context)
    wanted = {_known_status(each) for each in status}
    statuses = {STORED[each] for each in wanted}
    # Whether a process drives a flow is not in the journal, nor can it be asked for verdicts: every flow is looked at.
    looking = len(wanted & {"running", "interrupted"}) == 1 or ("ended" not in wanted and "ended" in statuses)
    try:
        with open_journal(settings) as journal:
            rows = journal.flows(
                statuses=cast("list[Status]", sorted(statuses)),
                machine=machine,
                roots_only=not children and machine is None,
                limit=sys.maxsize if looking else limit,
            )
    except FlowNotFound:
        rows = []
    if looking:
        rows = [row for row in rows if not wanted.isdisjoint({doing_of(settings, row), row.verdict})][:limit]
    mention_journals_set_aside(settings)
    if settings.json:
        for row in rows:
            shown = as_json(settings, row)
            put_json(shown | {"driven": shown["status"] == "running"})
        return
    if not rows:
        which = "matching flows" if wanted or machine is not None else "flows"
        say(f"No {which} found in {settings.paths.journal}.")
        return
    head = ("ID", "MACHINE", "STATE", "STATUS", "CHANGED")
    lines = ((shortened(r.id), r.machine, r.state, shown_status(settings, r), ago(r.updated)) for r in rows)
    put_table([head, *lines])


def _known_status(value: str) -> str:
    value = "paused" if value == "parked" else value  # its name until 0.2
    if value not in STORED:
        known = ", ".join(IN_WORDS.get(each, each) for each in STORED)
        raise click.BadParameter(f"{value!r} is not one of {known}", param_hint="--status")
    return value


@click.command("show", cls=Command, epilog=f"Example: {CLI} flows show 01jq")
@optional_id("The flow; without it the newest.")
@click.pass_context
def show(context: click.Context, flow: str | None) -> None:
    """Show a flow's state, what it means, and how to continue."""
    settings = settings_of(context)
    from .history import find_or_newest

    with open_journal(settings) as journal:
        row = find_or_newest(journal, flow)
        children = journal.children(row.id)
        problems = {each.id: problem_of(journal, each) for each in (row, *children)}
        waiting, refused = waiting_of(journal, row), refused_of(journal, row)
    trouble: dict[str, Any] | None = None
    says_way_on = False
    if row.trouble is not None:
        from ...engine.history import Trouble
        from .ways_on import hint_of_trouble, is_ours

        known = Trouble.read(row.trouble)
        hint = hint_of_trouble(settings, known, row)
        shown: dict[str, Any] = msgspec.to_builtins(known)
        trouble = {name: value for name, value in shown.items() if name != "remedy"}
        trouble |= {"hint": hint, "flow": known.flow or row.id}
        says_way_on = not is_ours(row.machine) and hint != known.hint
    driver = driver_of(settings, row)
    if settings.json:
        shown, *inside = (as_json(settings, each) | {"problem": problems[each.id]} for each in (row, *children))
        resume = resume_of(settings, row)
        inbox = {"waiting": waiting, "refused": refused}
        put_json(shown | {"trouble": trouble, "driver": driver, "children": inside, "resume": resume} | inbox)
        return
    from ..screen.render import place

    line = partial(put, hang=10)
    put(clean(f"{row.machine} {row.id}"))
    if row.key is not None:
        line(clean(f"Key:      {row.key}"))
    line(f"State:    {clean(place(row.machine, row.state))}")
    line(f"Status:   {shown_status(settings, row)}{f', driven by process {driver}' if driver else ''}")
    line(f"Started:  {when(row.created)}")
    line(f"Changed:  {when(row.updated)}, {counted(row.seq, 'record')}")
    if row.status == "queued":
        line(f"Begins:   waiting for {begins_of(row)}")
    elif row.deadline and row.status != "ended":
        line(f"Deadline: {when(row.deadline)}")
    if problem := problems[row.id]:
        line(f"Problem:  {problem}")
    for child in children:
        line(clean(f"Child:    {child.machine} {child.state} ({shown_status(settings, child)})  {child.id}"))
        if problem := problems[child.id]:
            line(f"          {problem}")
    if waiting:
        line(f"Inbox:    {', '.join(waiting)} (not taken yet)")
    for each in refused:
        line(f"Refused:  {each['event']}, {when(each['at'])}: {each['message']}")
    if trouble:
        line(f"Trouble:  {clean(str(trouble.get('message', '')))}")
        if trouble["flow"] != row.id:
            line(clean(f"          It is paused with its child flow {trouble['flow']}."))
        line(f"          {clean(str(trouble.get('hint', '')))}")
    if row.status != "ended" and not driver and not says_way_on:
        say(way_on_of(settings, row))


@click.command("history", cls=Command, epilog=f"Example: {CLI} flows history 01jq")
@optional_id("The flow; without it the newest.")
@click.pass_context
def history(context: click.Context, flow: str | None) -> None:
    """Show what a flow went through, a line for each state.

    With --verbose everything that happened, also in the flows inside it. A long history is shown in a pager (PAGER).
    """
    settings = settings_of(context)
    from .history import draw, each_change, histories_of, summarize

    if settings.json:
        from ..screen.lines import put_change

        for change in each_change(settings, flow):
            put_change(change)
        return
    histories = histories_of(settings, flow)
    put_paged(settings, (draw if settings.verbosity else summarize)(histories).rstrip("\n"))


@click.command("resume", cls=Command, epilog=f"Example: {CLI} flows resume")
@optional_id("The flow; without it the newest that can be resumed.")
@click.option("--repeat", is_flag=True, help="Retry the last request (it may happen twice).")
@no_browser_option
@qr_option
@paste_option
@click.pass_context
def resume(context: click.Context, flow: str | None, repeat: bool, no_browser: bool, qr: bool, paste: bool) -> None:
    """Resume a flow where it stopped."""
    settings = settings_of(context)
    check_paste(settings, paste=paste)
    with open_journal(settings) as journal:
        row = journal.find(flow) if flow is not None else _newest(settings, journal)
    from .ways_on import is_ours, way_on

    if not is_ours(row.machine):
        if row.status == "ended":
            _tell_cancelled(settings, row, already=True)
            raise click.exceptions.Exit(EXIT_DONE if row.verdict == "success" else EXIT_FAILED)
        unknown = f"{CLI} does not know the machine {row.machine}; flow {row.id} belongs to another program"
        raise IncompatibleFlow(unknown, hint=way_on(settings, row.machine, row.id, repeat=repeat))
    if row.status != "ended":
        goes = _known(row)
        refuse_untrusted(settings, goes.api_url, str(settings.paths.journal))
        if not goes.bound:
            warn_unbound()
        settings = _with_own_api(settings, goes.api_url)
    from ...machines.deployment import DEPLOYMENT
    from ..run.drive import drive

    async def begin(engine: Engine) -> Flow:
        return await engine.resume(row.id, repeat=repeat)

    stores = row.status != "ended" and row.machine != DEPLOYMENT.name
    code = drive(settings, begin, no_browser=no_browser, paste=paste, qr=qr, stores=stores, row=row)
    raise click.exceptions.Exit(code)


def _known(row: FlowRow) -> Known:
    from ...engine.machine.stored import decoded

    try:
        return decoded(KNOWN, row.context)
    except msgspec.DecodeError as exc:
        raise IncompatibleFlow(f"flow {row.id}: its context cannot be read: {exc}") from exc


def _with_own_api(settings: Settings, own: str) -> Settings:
    """The settings without an API option that differs from the flow's own API, with a message about it."""
    if settings.api_url is None and settings.env is None:
        return settings
    if choose_api(settings).url == own:
        return settings
    option = "--api-url" if settings.api_url is not None else "--env"
    say(f"The flow uses its own API, {clean(own)}; {option} does not apply.")
    return msgspec.structs.replace(settings, api_url=None, env=None)


def _newest(settings: Settings, journal: Journal) -> FlowRow:
    from ...engine.journal.records import UNFINISHED
    from .ways_on import is_ours

    rows = [row for row in journal.flows(statuses=UNFINISHED, roots_only=True) if is_ours(row.machine)]
    if not rows:
        raise FlowNotFound(f"no flow in {journal.path} can be resumed by this command")
    return next((row for row in rows if driver_of(settings, row) is None), rows[0])


@click.command("cancel", cls=Command, epilog=f"Example: {CLI} flows cancel 01jq --reason 'wrong plan'")
@id_argument
@click.option("--reason", metavar="TEXT", default="", show_default=False, help="Why; kept in the history.")
@click.pass_context
def cancel(context: click.Context, flow: str, reason: str) -> None:
    """Stop a flow for good. One that another process drives is asked to stop.

    A flow of another program's machine ends in the state it is in: its table is not known here, and is not used.
    """
    settings = settings_of(context)
    with open_journal(settings) as journal:
        row = journal.find(flow)
    if row.status == "ended":
        _tell_cancelled(settings, row, already=True)
        return
    from ...engine.engine import open_engine
    from ...flows.onboarding import all_programs
    from ...flows.services import Services
    from ..screen.money import not_undone
    from ..shared.signals import run
    from .ways_on import ended_without_table

    async def main() -> tuple[FlowRow, bool, Sequence[FlowRow]]:
        async with (
            Services(settings.paths, open_browser=None, environ=os.environ) as services,
            open_engine(settings.paths, all_programs(services)) as engine,
        ):
            if not await engine.cancel(row.id, reason):
                if not settings.json:
                    say(f"Another process drives it ({driver_of(settings, row)}); it was asked to stop.")
                await _wait_ended(engine, row.id)
            abandoned = engine.history(row.id)[-1].kind == "abandoned"
            return engine.row(row.id), abandoned, await engine.family(row.id)

    after, abandoned, family = run(main)
    _tell_cancelled(settings, after, already=False)
    for text in not_undone(settings, family):
        say(text)
    if abandoned and not settings.json:
        say(clean(ended_without_table(after)))
    if after.status != "ended":
        raise click.exceptions.Exit(EXIT_PENDING)


async def _wait_ended(engine: Engine, flow: str) -> None:
    """Wait up to `CANCEL_SECONDS` for a flow that another process drives to end."""
    import trio

    for _ in range(int(CANCEL_SECONDS / CANCEL_TICK)):
        if engine.row(flow).status == "ended":
            return
        await trio.sleep(CANCEL_TICK)


def _tell_cancelled(settings: Settings, row: FlowRow, *, already: bool) -> None:
    if settings.json:
        put_json(as_json(settings, row))
    elif row.status != "ended":
        say(clean(f"{row.machine} {shortened(row.id)} has not stopped yet; it is in {row.state}."))
    elif already:
        say(clean(f"{row.machine} {shortened(row.id)} had ended already: {ended_as(row)}."))
    else:
        say(clean(f"{row.machine} {shortened(row.id)} has ended: {ended_as(row)}."))


@click.command("check", cls=Command, epilog=f"Example: {CLI} flows check")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="DIR",
    callback=checking(known_path),
    help="Check recorded histories of other releases instead.",
)
@click.pass_context
def check(context: click.Context, against: Path | None) -> None:
    """Check the journal: the file, and every flow against its history."""
    settings = settings_of(context)
    if against is not None:
        from .replay import replay

        raise click.exceptions.Exit(replay(settings, against))
    from ...engine.fold import check_flow, is_table_of
    from ...flows.onboarding import all_programs
    from ...flows.services import Services

    found: dict[str, Any] = {"journal": str(settings.paths.journal), "flows": 0, "unchecked": {}, "problems": []}
    try:
        journal = open_journal(settings)
    except FlowNotFound as exc:
        put_done(settings, found, exc.user_message)
        return
    programs = all_programs(Services(settings.paths, open_browser=None))
    tables = {name: program.machine for program in programs for name in program.machine.names}
    with journal:
        problems = journal.integrity_problems()
        many, unchecked = 0, Counter[str]()
        for row in journal.each_flow():
            many += 1
            problems += check_flow(journal, programs, row)
            if not is_table_of(tables.get(row.machine), row):
                unchecked[row.machine] += 1  # without its table only the order of its records could be checked
    found |= {"flows": many, "unchecked": unchecked, "problems": [clean(problem) for problem in problems]}
    left = ", ".join(f"{number} of {clean(name)}" for name, number in sorted(unchecked.items()))
    summary = f"{counted(many, 'flow')}{f' (without their table not checked: {left})' if left else ''}"
    raise click.exceptions.Exit(put_problems(settings, found, f"{settings.paths.journal}: {summary}"))
