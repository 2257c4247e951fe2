"""`flows export`, `prune` and `backup`: taking a copy of what the journal knows, and keeping it small."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ..screen.terminal import put, put_done, put_json, say
from ..shared.names import CLI
from ..shared.options import confirm, yes_option
from ..shared.parameters import MOST, Argument, Command, WholeNumber
from ..shared.settings import Settings, settings_of
from .flows import id_argument, open_journal

if TYPE_CHECKING:
    from ...engine.journal.housekeeping import Pruned

_AGE = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.command(cls=Command, epilog=f"Example: {CLI} flows export 01jq > flow.json")
@id_argument
@click.pass_context
def export(context: click.Context, flow: str) -> None:
    """Write a flow and its history as JSON, without any secret.

    The flows inside it are there, too.
    """
    settings = settings_of(context)
    from ...engine.export import export_flow
    from ...engine.journal.vault import VaultFiles

    with open_journal(settings) as journal:
        document = export_flow(journal, VaultFiles(settings.paths.vault), flow, datetime.now(UTC))
    data = msgspec.json.encode(document)
    put((data if settings.json else msgspec.json.format(data, indent=2)).decode())


def parse_age(value: str) -> timedelta:
    """An age such as `30d`; a usage error shows what it may be."""
    if (found := _AGE.fullmatch(value)) is None:
        raise click.BadParameter(f"{value!r} is not an age: a number and m, h, d or w, for instance 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command(cls=Command, epilog=f"Example: {CLI} flows prune --older-than 30d --dry-run")
@click.option("--older-than", default="30d", metavar="AGE", help="Only what ended longer ago: 90m, 12h, 30d, 8w.")
@click.option("--keep", type=WholeNumber(0, MOST), default=0, metavar="N", help="Keep the newest N however old.")
@yes_option
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.pass_context
def prune(context: click.Context, older_than: str, keep: int, yes: bool, dry_run: bool) -> None:
    """Remove flows that ended long ago, with their histories.

    The room goes back to the disk. Flows that have not ended stay, and orders that may be paid and have no tenant:
    without them the next order would be placed without a question. Credentials and tenants are not touched.
    """
    settings = settings_of(context)
    before = datetime.now(UTC) - parse_age(older_than)
    from ...engine.journal.housekeeping import compact
    from ...engine.journal.housekeeping import prune as remove
    from ...engine.journal.vault import VaultFiles
    from ...flows.steps.orders import orders_in_doubt

    with open_journal(settings) as journal:
        vault = VaultFiles(settings.paths.vault)
        spare = orders_in_doubt(journal)
        found = remove(journal, vault, before, keep=keep, spare=spare, dry_run=True)
        if dry_run or not found.flows:
            _tell_pruned(settings, found, removed=False)
            return
        question = f"Remove {found.flows} flows that ended more than {older_than} ago, with their histories?"
        confirm(settings, question, yes=yes)
        done = remove(journal, vault, before, keep=keep, spare=spare)
        compacted = compact(journal, settings.paths.owners)
    _tell_pruned(settings, done, removed=True, freed=compacted.before - compacted.after)
    if compacted.outcome == "driven" and not settings.json:
        say("Flows are being driven, so the file keeps its size for now; new flows use the room.")


def _tell_pruned(settings: Settings, found: Pruned, *, removed: bool, freed: int = 0) -> None:
    if settings.json:
        put_json({"removed": removed, **msgspec.structs.asdict(found), "freed": freed})
        return
    did = "Removed" if removed else "To remove:"
    inside = f" and {found.children} inside them" if found.children else ""
    say(f"{did} {found.flows} flows{inside}, {found.records} records.")
    if found.kept:
        say(f"{found.kept} stay: a flow inside them has not ended.")
    if found.spared:
        say(f"{found.spared} stay: they hold an order that may be paid and has no tenant.")
    if freed > 0:
        say(f"{freed / 1_000_000:.1f} MB are free again.")


@click.command(cls=Command, epilog=f"Example: {CLI} flows backup journal-copy.sqlite3")
@click.argument(
    "file",
    cls=Argument,
    type=click.Path(path_type=Path),
    metavar="FILE",
    about="The new file; nothing may be there.",
)
@click.pass_context
def backup(context: click.Context, file: Path) -> None:
    """Copy the journal, also while flows are driven.

    Secrets are not in it: a flow that waits for a browser or a token continues only where its vault is.
    """
    settings = settings_of(context)
    from ...engine.journal.housekeeping import backup as copy

    with open_journal(settings) as journal:
        size = copy(journal, file)
        path = journal.path
    done = {"journal": str(path), "backup": str(file), "bytes": size}
    put_done(settings, done, f"{path} was copied to {file}, {size} bytes, only readable by you.")
