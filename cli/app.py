"""The program: its global options, its commands, and what happens to an error that nothing else handled."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from typing_extensions import override

from .._version import __version__
from ..base.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, CloudError, Io
from .commands import COMMANDS, inside, is_group, unknown
from .screen.columns import HELP_COLUMNS, help_columns
from .screen.terminal import prepare_streams, put_json, say, writing_for
from .shared.accounts import account_name, paths_of_account
from .shared.arguments import as_usage, hoist, known_path, known_text
from .shared.completion import complete_accounts, complete_from
from .shared.config import Config, load_config
from .shared.names import ACCOUNT_VARIABLE, CLI
from .shared.parameters import HelpContext, checking
from .shared.projection import projection_of
from .shared.settings import ENVIRONMENTS, Invocation, Settings, named_api_url
from .tab import Asked, variable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


EPILOG = (
    "Global options may come before or after the command. Exit codes: 0 done, 1 failed, 2 usage, 4 login needed, "
    "5 refused or denied, 8 still pending, 130 interrupted (143 by SIGTERM, 129 by SIGHUP); after 8 and those, run "
    "`flows resume`."
    f"\n\nExample: {CLI} up --plan plan_sandbox_starter --region fra"
)

GROUPS = {
    "auth": (
        " `login`, `logout` and `whoami` are short for `auth login`, `auth logout` and `auth status`.",
        "auth status",
    ),
    "config": (" An option or an environment variable goes before them.", "config list"),
    "tenants": ("", "tenants list"),
    "secrets": ("", "secrets set OPENAI_API_KEY"),
    "domain": ("", "domain set shop.example.com"),
    "sessions": ("", "sessions list"),
    "flows": (" An ID may be shortened while it fits one flow only.", "flows resume"),
}
"""What else there is to say about each group of commands, and an example."""


class Commands(click.Group):
    """The program, or a group: a command inside it is imported when it is run or its help is asked for.

    Args:
        words: The group's words; empty for the program.
        attributes: Whatever else click takes.
    """

    def __init__(self, *, words: str = "", **attributes: Any) -> None:
        super().__init__(no_args_is_help=True, **attributes)
        self.words = words

    context_class = HelpContext

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*inside(self.words)]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in inside(self.words):
            self.add_command(_command(f"{self.words} {cmd_name}".strip()), cmd_name)
        return self.commands.get(cmd_name)

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = inside(self.words)
        if not (args[0] in names or args[0].startswith("-") or ctx.resilient_parsing):
            ctx.fail(unknown(args[0], [*names]))
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*inside(self.words).items()])

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from .shared.completion import offers

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return offers(inside(self.words).items(), incomplete)


def _command(words: str) -> click.Command:
    if is_group(words):
        more, example = GROUPS[words]
        return Commands(words=words, name=words, help=COMMANDS[words][1] + more, epilog=f"Example: {CLI} {example}")
    module, _, attribute = COMMANDS[words][0].partition(":")
    found: click.Command = copy(getattr(importlib.import_module(f".{module}", __package__), attribute))
    name = words.rpartition(" ")[2]
    if found.name != name or words.startswith("auth "):  # `auth status` and `whoami` are one command
        found.epilog = (found.epilog or "").replace(f"{CLI} {found.name}", f"{CLI} {words}", 1)
        found.name = name
    return found


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        if context.ensure_object(Invocation).wants_json:
            put_json({"version": __version__})
        else:
            print(f"{CLI} {__version__}")
        context.exit()


def _install_completion(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from .shared.installing import install

        install(context.command, str(context.info_name), wants_json=context.ensure_object(Invocation).wants_json)
        context.exit()


def _show_completion(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from .shared.installing import script, shell_here

        print(script(context.command, shell_here(), str(context.info_name)))
        context.exit()


def _known_environment(value: str) -> str:
    if value not in ENVIRONMENTS:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(ENVIRONMENTS)}")
    return value


def _config(arguments: Sequence[str]) -> Config:
    """The settings that are kept; a damaged file never keeps anybody from the help."""
    return Config() if {"-h", "--help"} & {*arguments} else load_config()


def _named_directory(value: str) -> str:
    if value == "":  # an unset variable of a shell's, more likely than the current directory
        raise click.BadParameter("it is empty; the current directory is '.'")
    return value


def _refuse_too_long(directory: Path) -> None:
    """Before any command meets it: no file system takes it, so it is a mistake in the usage."""
    try:
        directory.lstat()
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise
        # whatever else it is, the commands that need the directory say so


@click.command(
    cls=Commands,
    name=CLI,
    epilog=EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "terminal_width": HELP_COLUMNS,
        "max_content_width": HELP_COLUMNS,
        "show_default": True,
    },
)
@click.option("--json", is_flag=True, help="One JSON object per line on stdout, nothing else.")
@click.option("--fields", metavar="NAMES", help="Of the JSON only these fields, separated by commas.")
@click.option("--jq", metavar="EXPR", help="Filter the JSON with a jq expression (extra `jq`).")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False),
    metavar="DIR",
    callback=checking(_named_directory),
    help="The .systemprompt directory to use. [default: SYSTEMPROMPT_DIR, the project's, yours]",
)
@click.option(
    "--account",
    metavar="NAME",
    callback=checking(account_name),
    shell_complete=complete_accounts,
    help="The account to use. [default: SYSTEMPROMPT_ACCOUNT, the active one]",
)
@click.option(
    "--api-url",
    metavar="URL",
    help="The API. [default: SYSTEMPROMPT_API_URL, where you are logged in, production]",
)
@click.option(
    "--env",
    metavar="NAME",
    callback=checking(_known_environment),
    shell_complete=complete_from(ENVIRONMENTS),
    help="production, sandbox or local (SYSTEMPROMPT_LOCAL_URL).",
)
@click.option("--no-input", is_flag=True, help="Never ask a question.")
@click.option("--verbose", "-v", count=True, show_default=False, help="Show more; twice for everything.")
@click.option(
    "--log-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=checking(known_path),
    help="Write the whole log there too; secrets are left out.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.option(
    "--install-completion",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_install_completion,
    help="Install completion for the current shell.",
)
@click.option(
    "--show-completion",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_completion,
    help="Show completion for the current shell, to copy it or customize the installation.",
)
@click.pass_context
def app(
    context: click.Context,
    json: bool,
    fields: str | None,
    jq: str | None,
    directory: str | None,
    account: str | None,
    api_url: str | None,
    env: str | None,
    no_input: bool,
    verbose: int,
    log_file: Path | None,
) -> None:
    """From nothing to a running tenant on SystemPrompt Cloud.

    Login, checkout and provisioning as flows that survive anything: kill the process, and resume where it was.
    """
    from ..io.local.paths import DIRECTORY_VARIABLE, resolve_cloud_paths
    from ..io.local.project import current_directory

    if api_url is not None and env is not None:
        raise click.BadParameter("give either --env or --api-url", param_hint="--env")
    named = None if directory is None else Path(directory)
    cwd = current_directory()
    with as_usage(DIRECTORY_VARIABLE if named is None else "--dir"):
        paths = resolve_cloud_paths(named, os.environ, cwd)
    invocation = context.ensure_object(Invocation)
    if paths.origin == "explicit":
        _refuse_too_long(paths.directory)
    invocation.projection = projection_of(fields, jq, json=json)
    invocation.settings = Settings(
        paths=paths,
        json=json,
        no_input=no_input,
        directory=named,
        account=account,
        api_url=None if api_url is None else named_api_url(api_url, "--api-url"),
        env=env,
        verbosity=verbose,
        log_file=log_file,
        arguments=invocation.arguments,
    )
    config = _config(invocation.arguments)
    wanted = account or os.environ.get(ACCOUNT_VARIABLE) or config.account or ""
    invocation.settings = msgspec.structs.replace(  # what is wrong up to here is already told as the options say
        invocation.settings,
        paths=paths_of_account(paths, account, wanted),
        wanted_account=wanted,
        no_input=no_input or bool(config.no_input),
        default_api_url=config.api_url,
        default_env=config.env,
    )


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


def answer(instruction: str, name: str) -> tuple[str, int]:
    """What a shell is told, and the exit code: the script, or what may follow the words typed so far.

    Args:
        instruction: What it asks.
        name: What the program is called.
    """
    from click.shell_completion import ShellComplete

    from .shared.installing import script

    asked = Asked(instruction, os.environ)
    if not asked.shell:
        return "", EXIT_FAILED
    if asked.source:
        text = script(app, asked.shell, name)
        return (f"{text}\n", EXIT_DONE) if text else ("", EXIT_FAILED)
    completer = ShellComplete(app, {"obj": Invocation()}, name, variable(name))
    found = completer.get_completions(asked.words, asked.incomplete)
    return asked.answer(((each.type, each.value, each.help or "") for each in found), os.environ)


def _run(invocation: Invocation, name: str) -> int:
    try:
        words, columns = known_text(invocation.arguments), help_columns(sys.stdout)
        with app.make_context(name, words, obj=invocation, terminal_width=columns) as context:
            app.invoke(context)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.UsageError as exc:
        _tell_usage_error(invocation, exc)
        return exc.exit_code
    except EOFError:
        say("Aborted!")
        return EXIT_FAILED
    except CloudError as exc:
        from .screen.errors import report

        return report(invocation.settings, exc)
    except OSError as exc:
        if exc.filename is None:
            raise  # of a stream; `__main__` knows those
        from .screen.errors import report

        problem = Io(f"cannot use {exc.filename}: {exc.strerror}")
        if exc.errno != errno.ENAMETOOLONG:
            return report(invocation.settings, problem)
        _tell_usage_error(invocation, click.BadParameter(problem.user_message))
        return EXIT_USAGE
    except KeyboardInterrupt as exc:
        say("\nInterrupted.")
        return int(getattr(exc, "code", EXIT_INTERRUPTED))
    return EXIT_DONE


def _tell_usage_error(invocation: Invocation, problem: click.UsageError) -> None:
    """A mistake in the usage: in words on stderr, for programs also as an object on stdout."""
    from .screen.errors import in_short

    message = "\n".join(map(in_short, problem.format_message().splitlines()))
    if isinstance(problem, click.exceptions.NoArgsIsHelpError):
        say(message)  # the help of the group whose name alone was typed
    else:
        if problem.ctx is not None:
            say(f"{problem.ctx.get_usage()}\nTry '{problem.ctx.command_path} -h' for help.\n")
        say(f"Error: {message}")
    if invocation.wants_json:
        hint = f"See {CLI if problem.ctx is None else problem.ctx.command_path} --help"
        shown = {"error": "UsageError", "message": in_short(message), "hint": hint, "exit_code": problem.exit_code}
        put_json(shown, whole=True)
