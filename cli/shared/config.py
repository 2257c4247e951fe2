"""The settings a user keeps: `config.json` in the user's config directory.

Each is used where neither an option nor an environment variable says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from ...base.decoding import UNREADABLE
from ...base.errors import Io
from .settings import ENVIRONMENTS, named_api_url


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept; None for a setting that is not set."""

    account: str | None = None
    api_url: str | None = None
    env: str | None = None
    no_input: bool | None = None


def _account(value: str) -> str:
    from ...io.local.account_paths import name_problem

    if problem := name_problem(value):
        _refuse("account", value, f"the name {problem}")
    return value


def _api_url(value: str) -> str:
    return named_api_url(value, "api_url")


def _env(value: str) -> str:
    return value if value in ENVIRONMENTS else _refuse("env", value, f"it is one of {', '.join(ENVIRONMENTS)}")


def _no_input(value: str) -> bool:
    return value == "true" if value in {"true", "false"} else _refuse("no_input", value, "it is true or false")


def _refuse(key: str, value: str, why: str) -> NoReturn:
    raise click.BadParameter(f"{value!r} is not a valid value for {key}: {why}", param_hint="VALUE")


KEYS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "account": ("The account to use: --account, SYSTEMPROMPT_ACCOUNT.", _account),
    "api_url": ("The API: --api-url, SYSTEMPROMPT_API_URL.", _api_url),
    "env": ("The API by its name: --env.", _env),
    "no_input": ("Never ask a question: --no-input.", _no_input),
}
"""Each setting: what it is, with the option and the variable that go before it, and the check of a value."""


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the settings are kept."""
    from ...io.local.user_directories import config_directory

    return config_directory(environ) / "config.json"


def load_config(environ: Mapping[str, str] = os.environ) -> Config:
    """What is kept; nothing where there is no file.

    Raises:
        Io: It cannot be read, is not JSON, or holds something that is no setting.
        UnsafeFile: It is a symbolic link or belongs to another user.
    """
    from ...base.files import read_private

    path = config_path(environ)
    if not os.path.lexists(path):
        return Config()
    data = read_private(path)
    if data is None:
        return Config()
    try:
        found = msgspec.json.decode(data, type=Config)
        for key, (_, check) in KEYS.items():
            if isinstance(value := getattr(found, key), str):
                check(value)
        if found.api_url and found.env:
            raise msgspec.ValidationError("it holds both api_url and env")
    except (*UNREADABLE, click.BadParameter) as exc:
        problem = exc.message if isinstance(exc, click.BadParameter) else str(exc)
        import shlex

        hint = f"Fix it, or remove it: rm {shlex.quote(str(path))}. Settings: {', '.join(KEYS)}"
        raise Io(f"{path} does not hold settings: {problem}", hint=hint) from exc
    return found


@contextmanager
def _held(environ: Mapping[str, str]) -> Generator[Path]:
    from ...base.files import ensure_private_dir, locked

    path = config_path(environ)
    ensure_private_dir(path.parent)
    with locked(path):
        yield path


def save_setting(key: str, value: str | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Keep a setting, or remove it where the value is None; what is kept now.

    Raises:
        click.BadParameter: The value is none of this setting, or another setting excludes it.
        Io: The file cannot be read or written; it is unchanged.
        UnsafeFile: As `load_config`.
    """
    from ...base.files import write_private

    checked = None if value is None else KEYS[key][1](value)
    with _held(environ) as path:
        changed = msgspec.structs.replace(load_config(environ), **{key: checked})
        if changed.api_url and changed.env:
            other = "env" if key == "api_url" else "api_url"
            raise click.BadParameter(f"{other} is set, and only one of the two can be. Unset {other} first")
        write_private(path, msgspec.json.format(msgspec.json.encode(changed)) + b"\n")
    return changed
