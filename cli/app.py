"""The program: its global options, its commands, and what happens to an error that nothing else handled."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from .._version import __version__
from ..base.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, CloudError, Io
from .account import login, logout, sessions, whoami
from .flows import flows
from .flows import keep as flows_keep
from .flows import send as flows_send
from .flows import watch as flows_watch
from .run import checkout, deploy, plans, provision, up
from .screen.errors import in_short, report
from .screen.terminal import prepare_streams, put_json, say, writing_for
from .shared.arguments import as_usage, hoist, known_path, known_text
from .shared.names import CLI
from .shared.settings import ENVIRONMENTS, Invocation, Settings, named_api_url
from .tenants import change as tenants_change
from .tenants import domain, registry_token, secrets, tenants
from .tools import demo, diagram, doctor, sandbox

EPILOG = (
    "Global options may come before or after the command. Exit codes: 0 done, 1 failed, 2 usage, 4 login needed, "
    "5 refused or denied, 8 still pending, 130 interrupted (143 by SIGTERM, 129 by SIGHUP); after 8 and those, run "
    "`flows resume`."
    f"\n\nExample: {CLI} up --plan plan_sandbox_starter --region fra"
)

app = typer.Typer(
    name=CLI,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": 80, "max_content_width": 80},
)

_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""Every mistake in the usage; Typer gives only this kind of it a public name, and has what is used here in its base."""


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        if context.ensure_object(Invocation).wants_json:
            put_json({"version": __version__})
        else:
            print(f"{CLI} {__version__}")
        raise typer.Exit


def _known_environment(value: str | None) -> str | None:
    if value is not None and value not in ENVIRONMENTS:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(ENVIRONMENTS)}")
    return value


def _named_directory(value: str | None) -> str | None:
    if value == "":  # an unset variable of a shell's, more likely than the current directory
        raise typer.BadParameter("it is empty; the current directory is '.'")
    return value


def _refuse_too_long(directory: Path) -> None:
    """Before any command meets it: no file system takes it, so it is a mistake in the usage."""
    try:
        directory.lstat()
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise
        # whatever else it is, the commands that need the directory say so


@app.callback()
def program(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout, nothing else.")] = False,
    directory: Annotated[
        str | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            callback=_named_directory,
            help="The .systemprompt directory to use. [default: SYSTEMPROMPT_DIR, the project's, yours]",
        ),
    ] = None,
    api_url: Annotated[
        str | None,
        typer.Option(
            "--api-url",
            metavar="URL",
            help="The API. [default: SYSTEMPROMPT_API_URL, where you are logged in, production]",
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            "--env",
            metavar="NAME",
            callback=_known_environment,
            help="production, sandbox or local (SYSTEMPROMPT_LOCAL_URL).",
        ),
    ] = None,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask a question.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Show more; twice for everything.")
    ] = 0,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            metavar="FILE",
            callback=known_path,
            help="Write the whole log there too; secrets are left out.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From nothing to a running tenant on SystemPrompt Cloud.

    Login, checkout and provisioning as flows that survive anything: kill the process, and resume where it was.
    """
    from ..io.local.paths import DIRECTORY_VARIABLE, resolve_cloud_paths
    from ..io.local.project import current_directory

    if api_url is not None and env is not None:
        raise typer.BadParameter("give either --env or --api-url", param_hint="--env")
    named = None if directory is None else Path(directory)
    cwd = current_directory()
    with as_usage(DIRECTORY_VARIABLE if named is None else "--dir"):
        paths = resolve_cloud_paths(named, os.environ, cwd)
    if paths.origin == "explicit":
        _refuse_too_long(paths.directory)
    invocation = context.ensure_object(Invocation)
    invocation.settings = Settings(
        paths=paths,
        json=json,
        no_input=no_input,
        directory=named,
        api_url=None if api_url is None else named_api_url(api_url, "--api-url"),
        env=env,
        verbosity=verbose,
        log_file=log_file,
        arguments=invocation.arguments,
    )


for module in (up, login, whoami, logout, plans, checkout, provision, deploy, registry_token):
    module.register(app)
for module in (demo, diagram, sandbox, doctor):
    module.register(app)
for module in (flows_send, flows_watch, flows_keep):
    module.register(flows.app)
tenants_change.register(tenants.app)
for name, group in {
    "tenants": tenants,
    "secrets": secrets,
    "domain": domain,
    "sessions": sessions,
    "flows": flows,
}.items():
    app.add_typer(group.app, name=name)


def run(argv: Sequence[str], *, name: str = CLI) -> int:
    """Run one command line.

    Args:
        argv: What was typed after the program's name.
        name: What the program is called.

    Returns:
        The exit code.
    """
    prepare_streams()
    invocation = Invocation(tuple(hoist(argv)))
    with writing_for(invocation):
        code = _run(invocation, name)
    return EXIT_FAILED if code == EXIT_DONE and invocation.data_lost else code


def _run(invocation: Invocation, name: str) -> int:
    try:
        arguments = known_text(invocation.arguments)
        return app(arguments, prog_name=name, standalone_mode=False, obj=invocation) or EXIT_DONE
    except _UsageError as exc:
        _tell_usage_error(invocation, exc)
        return exc.exit_code
    except SystemExit as exc:  # completion ends the program itself
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except typer.Abort:
        say("Aborted!")
        return EXIT_FAILED
    except CloudError as exc:
        return report(invocation.settings, exc)
    except OSError as exc:
        if exc.filename is None:
            raise  # of a stream; `__main__` knows those
        problem = Io(f"cannot use {exc.filename}: {exc.strerror}")
        if exc.errno != errno.ENAMETOOLONG:
            return report(invocation.settings, problem)
        _tell_usage_error(invocation, typer.BadParameter(problem.user_message))
        return EXIT_USAGE
    except KeyboardInterrupt as exc:
        say("\nInterrupted.")
        return int(getattr(exc, "code", EXIT_INTERRUPTED))


def _tell_usage_error(invocation: Invocation, problem: typer.BadParameter) -> None:
    """A mistake in the usage: in words on stderr, for programs also as an object on stdout."""
    # Line by line: where nothing but the name of a group was typed, the message is its help.
    problem.message = "\n".join(map(in_short, problem.message.splitlines()))
    problem.show()
    if invocation.wants_json:
        where: str = getattr(problem.ctx, "command_path", CLI)
        message, hint = in_short(problem.format_message()), f"See {where} --help"
        put_json({"error": "UsageError", "message": message, "hint": hint, "exit_code": problem.exit_code})
