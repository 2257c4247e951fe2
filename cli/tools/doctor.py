"""`doctor`: diagnose problems, each with what to do about it.

It only looks; what it reads is treated as by any command, though: a loose mode is narrowed, and a journal that is no
journal is set aside. Every check shows what it found; a warning does not stop the work, a failure does, or soon will.
"""

from __future__ import annotations

from functools import partial

import click

from ...base.errors import EXIT_DONE, EXIT_FAILED
from ..screen.terminal import clean, mark, put, put_json, say
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import Settings, settings_of
from .findings import Finding, counted


@click.command(cls=Command, epilog=f"Example: {CLI} doctor --offline")
@click.option("--offline", is_flag=True, help="Do not ask the API.")
@click.pass_context
def doctor(context: click.Context, offline: bool) -> None:
    """Diagnose problems.

    Directories, files, the journal, ports, the browser, proxy and certificates, the login, the API and the clock, each
    with what to do about it. Ends with 1 when a problem is found.
    """
    settings = settings_of(context)
    from ...io.local.keyring_store import KeyringStore
    from .doctor_files import directory_findings, file_findings, journal_findings
    from .doctor_world import api_findings, browser_findings, login_findings, port_findings, proxy_findings

    bad = 0
    keyring = KeyringStore()
    files, login, api = (partial(look, keyring=keyring) for look in (file_findings, login_findings, api_findings))
    looks = [directory_findings, files, journal_findings, port_findings, browser_findings, proxy_findings, login]
    looks += [] if offline else [api]
    for look in looks:
        for finding in look(settings):
            bad += finding.status == "failed"
            _put(settings, finding)
    if not settings.json:
        say(f"{counted(bad, 'problem')} found." if bad else "No problems found.")
    raise click.exceptions.Exit(EXIT_FAILED if bad else EXIT_DONE)


def _put(settings: Settings, finding: Finding) -> None:
    hint = clean(finding.hint)
    message = clean(finding.message)
    if settings.json:
        shown = {"check": finding.check, "status": finding.status, "message": message, "hint": hint}
        put_json(shown)
        return
    sign = "!" if finding.status == "warning" else mark(finding.status == "ok")
    put(f"{sign} {finding.check}: {message}")
    if hint:
        put(f"  {hint}")
