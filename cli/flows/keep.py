"""`flows export`, `prune`, `backup` and `restore`: taking a copy of what the journal knows, and keeping it small."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ..screen.terminal import put_done, put_json, put_utf8, say
from ..shared.arguments import known_path
from ..shared.bounds import whole_number
from ..shared.names import CLI
from ..shared.options import Yes, confirm
from ..shared.settings import Settings, settings_of
from .flows import Id, open_journal

if TYPE_CHECKING:
    from ...engine.journal.housekeeping import Pruned

_AGE = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def export(context: typer.Context, flow: Id) -> None:
    """Write a flow and its history as JSON, without any secret.

    The flows inside it are there, too.
    """
    settings = settings_of(context)
    from ...engine.export import export_flow
    from ...engine.journal.vault import VaultFiles

    with open_journal(settings) as journal:
        document = export_flow(journal, VaultFiles(settings.paths.vault), flow, datetime.now(UTC))
    data = msgspec.json.encode(document)
    put_utf8((data if settings.json else msgspec.json.format(data, indent=2)).decode())


def parse_age(value: str) -> timedelta:
    """An age such as `30d`; a usage error shows what it may be."""
    if (found := _AGE.fullmatch(value)) is None:
        raise typer.BadParameter(f"{value!r} is not an age: a number and m, h, d or w, for instance 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def prune(
    context: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Only what ended longer ago: 90m, 12h, 30d, 8w.")
    ] = "30d",
    keep: Annotated[
        int, typer.Option("--keep", parser=whole_number(0), metavar="N", help="Keep the newest N however old.")
    ] = 0,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
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


def backup(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", callback=known_path, help="The new file; nothing may be there.")
    ],
    secrets: Annotated[
        Path | None,
        typer.Option(
            "--secrets",
            metavar="FILE",
            callback=known_path,
            help="Save the flows' secrets too, in this new file, in plain text.",
        ),
    ] = None,
) -> None:
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


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", callback=known_path, help="What `flows backup` wrote.")],
    secrets: Annotated[
        Path | None,
        typer.Option("--secrets", metavar="FILE", callback=known_path, help="What `flows backup --secrets` wrote."),
    ] = None,
) -> None:
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


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=f"Example: {CLI} flows export 01jq > flow.json")(export)
    app.command(epilog=f"Example: {CLI} flows prune --older-than 30d --dry-run")(prune)
    app.command(epilog=f"Example: {CLI} flows backup journal-copy.sqlite3")(backup)
    app.command(epilog=f"Example: {CLI} flows restore journal-copy.sqlite3")(restore)
