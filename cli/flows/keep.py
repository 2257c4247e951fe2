"""`flows export`, `prune`, `backup` and `restore`: taking a copy of what the journal knows, and keeping it small."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ..screen.terminal import put_done, put_json, put_utf8, say
from ..shared.arguments import known_path
from ..shared.bounds import MOST, whole_number
from ..shared.names import CLI
from ..shared.options import Decorator, confirm, yes_option
from ..shared.parameters import Argument, Command, checking
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
    if settings.json:
        put_json(document)
    else:
        put_utf8(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def parse_age(value: str) -> timedelta:
    """An age such as `30d`; a usage error shows what it may be."""
    if (found := _AGE.fullmatch(value)) is None:
        raise click.BadParameter(f"{value!r} is not an age: a number and m, h, d or w, for instance 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command(cls=Command, epilog=f"Example: {CLI} flows prune --older-than 30d --dry-run")
@click.option("--older-than", default="30d", metavar="AGE", help="Only what ended longer ago: 90m, 12h, 30d, 8w.")
@click.option("--keep", type=whole_number(0, MOST), default=0, metavar="N", help="Keep the newest N however old.")
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


def file_argument(about: str) -> Decorator:
    """The argument for the file with the backup."""
    kind, check = click.Path(path_type=Path), checking(known_path)
    return click.argument("file", cls=Argument, type=kind, metavar="FILE", callback=check, about=about)


def secrets_option(about: str) -> Decorator:
    """The option for the file with the flows' secrets."""
    kind, check = click.Path(path_type=Path), checking(known_path)
    return click.option("--secrets", type=kind, metavar="FILE", callback=check, help=about)


@click.command(cls=Command, epilog=f"Example: {CLI} flows backup journal-copy.sqlite3")
@file_argument("The new file; nothing may be there.")
@secrets_option("Save the flows' secrets too, in this new file, in plain text.")
@click.pass_context
def backup(context: click.Context, file: Path, secrets: Path | None) -> None:
    """Copy the journal, also while flows are driven.

    Secrets are not in it: without --secrets, a flow that needs one continues only where its vault is. `flows restore`
    puts both back, also on another machine.
    """
    settings = settings_of(context)
    from ...engine.journal.backups import backup as copy
    from ...engine.journal.backups import backup_with_secrets
    from ...engine.journal.vault import VaultFiles

    with open_journal(settings) as journal:
        path = journal.path
        done: dict[str, object] = {"journal": str(path), "backup": str(file)}
        if secrets is None:
            done["bytes"] = size = copy(journal, file)
        else:
            saved = backup_with_secrets(journal, VaultFiles(settings.paths.vault), file, secrets)
            done |= {"bytes": saved.size, "secrets": str(secrets), "flows_with_secrets": saved.flows}
            size = saved.size
    put_done(settings, done, f"{path} was copied to {file}, {size} bytes, only readable by you.")
    if secrets is not None:
        say(f"{secrets} holds secrets in plain text. Keep it private, and delete it after `{CLI} flows restore`.")


@click.command(cls=Command, epilog=f"Example: {CLI} flows restore journal-copy.sqlite3")
@file_argument("What `flows backup` wrote.")
@secrets_option("What `flows backup --secrets` wrote.")
@click.pass_context
def restore(context: click.Context, file: Path, secrets: Path | None) -> None:
    """Put a backup back, also on another machine.

    There must be no journal yet. The flows can be resumed then; do not resume them where the backup was made as well,
    or both do the same work.
    """
    settings = settings_of(context)
    from ...engine.journal.backups import restore as put_back

    found = put_back(settings.paths, file, secrets)
    path = settings.paths.journal
    done = {"journal": str(path), "unfinished": found.unfinished, "flows_with_secrets": found.flows}
    flows = "1 flow" if found.unfinished == 1 else f"{found.unfinished} flows"
    put_done(settings, done, f"{file} was restored to {path}, with {flows} to resume, {found.flows} with secrets.")
    if found.unfinished and secrets is None and not settings.json:
        say("Secrets were not restored: a flow that needs one pauses when it is resumed.")
