"""The global options, and which API they, the environment and the stored credentials select.

The API is the first of these: `--api-url`, `--env`, SYSTEMPROMPT_API_URL, the stored
credentials, production. One of them is not trusted: credentials found in a project directory may have come with a
clone, and a login started because of them would send the user, and then their token, wherever the file says.
`trusted_api_url` refuses that until the user names the API.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import click
import msgspec

from ...base.errors import Io, UnsafeFile
from ...errors import CredentialsCorrupted, NotAuthenticated, UnsafeUrl, UntrustedApi
from ...io.local.paths import CloudPaths
from .names import CLI
from .projection import Projection

LOCAL_VARIABLE: Final = "SYSTEMPROMPT_LOCAL_URL"
ENVIRONMENTS: Final = ("production", "sandbox", "local")

STARTING: Final = frozenset({"up", "login", "checkout"})
"""The commands that start a flow with a loopback port, and so can be run again with another port."""

_ORIGINS: Final = {
    "explicit": "named by --dir or SYSTEMPROMPT_DIR",
    "project": "this project's",
    "user": "yours; there is no .systemprompt/ in this directory or above",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The parsed global options.

    Attributes:
        json: One JSON object per line on stdout, for programs.
        no_input: Never prompt.
        paths: Where everything is stored.
        directory: The value of `--dir`, if given; printed commands repeat it.
        account: The value of `--account`, if given.
        reason: Why this directory was chosen, where `paths.origin` does not say.
        api_url: The value of `--api-url`, if given.
        env: The value of `--env`, if given.
        wanted_account: The account that an option, the environment or the config names; empty for the active one.
        default_api_url: The API that the config names, if any.
        default_env: The same by its name.
        verbosity: How often `-v` was given.
        log_file: Where the log goes besides stderr.
        arguments: The command line, the global options first.
    """

    paths: CloudPaths
    json: bool = False
    no_input: bool = False
    directory: Path | None = None
    account: str | None = None
    reason: str = ""
    api_url: str | None = None
    env: str | None = None
    wanted_account: str = ""
    default_api_url: str | None = None
    default_env: str | None = None
    verbosity: int = 0
    log_file: Path | None = None
    arguments: tuple[str, ...] = ()

    def command(self, words: str, *, own_api: bool = False) -> str:
        """A command to print, with the program's name and this run's `--dir`, `--account` and API options.

        Args:
            words: The rest of the command.
            own_api: Whether `words` name an API themselves.
        """
        where = f"{program()}{self._dir_option()}"
        if self.account is not None:
            where += f" --account {self.account}"
        if own_api:
            return f"{where} {words}"
        api = "" if self.api_url is None else f" --api-url {shlex.quote(self.api_url)}"
        env = "" if self.env is None else f" --env {self.env}"
        return f"{where}{api}{env} {words}"

    def resume_command(self, flow: str) -> str:
        """The command that resumes a flow."""
        return self.command(f"flows resume {flow}")

    def again(self, option: str = "", value: str = "") -> str:
        """This run's command line to print, with an option changed; empty when it started no flow."""
        words = list(self.arguments)
        if not STARTING & set(words):
            return ""
        if option:
            while option in words:
                at = words.index(option)
                del words[at : at + 2]
            words = [word for word in words if not word.startswith(f"{option}=")] + [option, value]
        return f"{program()} {shlex.join(words)}"

    def again_with(self, flag: str) -> str:
        """This run's command line to print, with a flag that asks the person; empty when it started no flow."""
        words = [word for word in self.arguments if word not in {"--no-input", flag}]
        return f"{program()} {shlex.join([*words, flag])}" if STARTING & set(words) else ""

    def _dir_option(self) -> str:
        return "" if self.directory is None else f" --dir {shlex.quote(str(self.paths.directory))}"

    @property
    def directory_line(self) -> str:
        """Which directory is used, and why."""
        return f"Directory: {self.paths.directory} ({self.reason or _ORIGINS[self.paths.origin]})"


class Invocation(msgspec.Struct):
    """One command line being run: the object of its context. Another run in the same process has its own.

    Attributes:
        arguments: What was typed, the global options first.
        settings: The global options, once they are understood.
        data_lost: Whether stdout could not be written.
        projection: What is shown of the JSON; None for all of it.
    """

    arguments: tuple[str, ...] = ()
    settings: Settings | None = None
    data_lost: bool = False
    projection: Projection | None = None

    @property
    def wants_json(self) -> bool:
        """Whether a program is to read what this run prints; known before the options are understood."""
        return "--json" in self.arguments


def program() -> str:
    """How to start this command again: by its name, or by the path that was typed where the name would not find it."""
    typed = sys.argv[0]
    if Path(typed).name not in {CLI, "spc"}:
        return CLI  # started as a module, or by another program
    import shutil

    return Path(typed).name if shutil.which(Path(typed).name) else shlex.quote(typed)


def settings_of(context: click.Context) -> Settings:
    """The settings of a running command, with the log going where they say.

    Raises:
        Io: The log file cannot be opened.
    """
    from .log import configure_logging

    # The program's own callback has run before any command.
    settings = cast("Settings", context.ensure_object(Invocation).settings)
    configure_logging(settings.verbosity, settings.log_file)
    return settings


class ApiChoice(msgspec.Struct, frozen=True):
    """An API and what named it: the person (`named`), the stored credentials (`stored`), or nobody (`default`)."""

    url: str
    source: Literal["named", "stored", "default"]


def choose_api(settings: Settings, environ: Mapping[str, str] = os.environ) -> ApiChoice:
    """Which API is meant.

    Raises:
        click.BadParameter: `--env local` without SYSTEMPROMPT_LOCAL_URL, or both `--env` and `--api-url`.
        UnsafeFile: The stored credentials are a symbolic link or belong to somebody else.
    """
    from ...io.cloud.wire import Environment
    from ...io.local.environment import API_URL, environment_api_url, environment_token

    if settings.api_url is not None:
        return ApiChoice(settings.api_url, "named")
    if settings.env == "local":
        if not (url := environ.get(LOCAL_VARIABLE)):
            raise click.BadParameter(
                f"{LOCAL_VARIABLE} is not set. Start a local cloud with `{CLI} sandbox`, then set {LOCAL_VARIABLE} "
                "to the address it prints, or give that address as --api-url.",
                param_hint="--env local",
            )
        return ApiChoice(named_api_url(url, LOCAL_VARIABLE), "named")
    if settings.env is not None:
        return ApiChoice(Environment(settings.env).api_url, "named")
    if url := environment_api_url(environ):
        return ApiChoice(named_api_url(url, API_URL), "named")
    if (settings.default_api_url or settings.default_env) and not environment_token(environ):
        kept = {"api_url": settings.default_api_url, "env": settings.default_env}
        return choose_api(msgspec.structs.replace(settings, default_api_url=None, default_env=None, **kept), environ)
    # The stored login is not the one a token in the environment belongs to, nor is its API.
    if not environment_token(environ) and (url := stored_api_url(settings.paths)):
        return ApiChoice(url, "stored")
    return ApiChoice(Environment.PRODUCTION.api_url, "default")


def named_api_url(url: str, named_by: str) -> str:
    """An API's address without a slash at its end, if a token may be sent there.

    Args:
        url: What was given.
        named_by: The option or environment variable that gave it.

    Raises:
        click.BadParameter: None may (`io/http/urls.py`).
    """
    from ...io.http.urls import check_api_url

    try:
        check_api_url(url, named_by)
    except UnsafeUrl as exc:
        raise click.BadParameter(exc.user_message) from exc
    return url.rstrip("/")


def stored_api_url(paths: CloudPaths) -> str | None:
    """The API of the stored credentials; None when there are none, or none that can be understood.

    Raises:
        UnsafeFile: They are a symbolic link or belong to somebody else.
    """
    from ...io.local.credentials import CloudCredentials

    try:
        return CloudCredentials.peek_at_path(paths.credentials).api_url.rstrip("/")
    except UnsafeFile:
        raise
    except (NotAuthenticated, CredentialsCorrupted, Io):
        return None  # whoever needs them says so; a login sets aside what is no use


def usable_api(settings: Settings, environ: Mapping[str, str] = os.environ) -> ApiChoice:
    """Which API is meant, for commands that will call it.

    Raises:
        UnsafeUrl: The stored credentials name one that no token may be sent to.
        UnsafeFile: As `choose_api`.
    """
    from ...io.http.urls import check_api_url

    choice = choose_api(settings, environ)
    if choice.source == "stored":
        file = settings.paths.credentials
        try:
            check_api_url(choice.url, f"the api_url in {file}")
        except UnsafeUrl as exc:
            raise UnsafeUrl(exc.user_message, hint=f"Remove it, then log in: rm {shlex.quote(str(file))}") from exc
    return choice


def trusted_api_url(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """Which API is meant, for commands that may send a person there to log in.

    Raises:
        UntrustedApi: Only a file of the project names it, and it is neither ours nor on this computer.
        UnsafeUrl: As `usable_api`.
        UnsafeFile: The login could not be stored: what is in its place is a symbolic link or somebody else's.
    """
    stored_api_url(settings.paths)  # a person should not go through a login that cannot be kept
    choice = usable_api(settings, environ)
    if choice.source == "stored":
        refuse_untrusted(settings, choice.url, str(settings.paths.credentials))
    return choice.url


def refuse_untrusted(settings: Settings, url: str, file: str) -> None:
    """Refuse an API that only a project's file names.

    Args:
        settings: Where the file was found, and what the person named.
        url: The API.
        file: The file that names it, for the message.

    Raises:
        UntrustedApi: The file belongs to a project and the person did not name the API.
    """
    if settings.paths.origin != "project" or is_well_known(url) or settings.api_url == url:
        return
    raise UntrustedApi(
        f"{file} names the API {url}; it may have come with the project, so it is not used for a login",
        hint=f"If you trust it, name it yourself: {settings.command(f'--api-url {shlex.quote(url)} …', own_api=True)}",
    )


def is_well_known(url: str) -> bool:
    """Whether an API is production, the sandbox, or on this computer."""
    from ...io.cloud.wire import PRODUCTION_URL, SANDBOX_URL

    return url.rstrip("/") in {PRODUCTION_URL, SANDBOX_URL} or is_local(url)


def is_local(url: str) -> bool:
    """Whether an API is on this computer."""
    from ...io.http.urls import LOOPBACK_NAMES

    try:
        return urlsplit(url).hostname in LOOPBACK_NAMES
    except ValueError:
        return False
