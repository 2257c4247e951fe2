"""`config`: the settings a user keeps."""

from __future__ import annotations

import click

from ...base.errors import EXIT_FAILED
from ..screen.terminal import put, put_done, put_json, put_table, say
from ..shared.completion import complete_from
from ..shared.config import KEYS, load_config, save_setting
from ..shared.names import CLI
from ..shared.parameters import Argument, Command, checking
from ..shared.settings import settings_of


def _known_key(value: str) -> str:
    if value not in KEYS:
        raise click.BadParameter(f"no setting {value!r}. Settings: {', '.join(KEYS)}")
    return value


_key = click.argument(
    "key",
    cls=Argument,
    metavar="KEY",
    callback=checking(_known_key),
    shell_complete=complete_from(KEYS, {key: what for key, (what, _) in KEYS.items()}),
    about=f"The setting: {', '.join(KEYS)}.",
)


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


@click.command("get", cls=Command, epilog=f"Example: {CLI} config get env")
@_key
@click.pass_context
def get(context: click.Context, key: str) -> None:
    """Print a setting; exit code 1 when it is not set."""
    settings = settings_of(context)
    value: object = getattr(load_config(), key)
    if settings.json:
        put_json({"key": key, "value": value})
    elif value is None:
        say(f"{key} is not set. To set it: {CLI} config set {key} VALUE")
    else:
        put(_text(value))
    if value is None:
        raise click.exceptions.Exit(EXIT_FAILED)


@click.command("list", cls=Command, epilog=f"Example: {CLI} config list")
@click.pass_context
def list_settings(context: click.Context) -> None:
    """List every setting with its value."""
    settings = settings_of(context)
    found = load_config()
    rows = [("SETTING", "VALUE", "WHAT IT IS")]
    for key, (what, _) in KEYS.items():
        value: object = getattr(found, key)
        if settings.json:
            put_json({"key": key, "value": value})
        rows.append((key, "not set" if value is None else _text(value), what))
    if not settings.json:
        put_table(rows)


@click.command("set", cls=Command, epilog=f"Example: {CLI} config set env sandbox")
@_key
@click.argument("value", cls=Argument, metavar="VALUE", about="Its new value.")
@click.pass_context
def set_setting(context: click.Context, key: str, value: str) -> None:
    """Set a setting. An option or an environment variable goes before it."""
    settings = settings_of(context)
    kept: object = getattr(save_setting(key, value), key)
    put_done(settings, {"key": key, "value": kept}, f"Set {key} to {_text(kept)}.")


@click.command("unset", cls=Command, epilog=f"Example: {CLI} config unset env")
@_key
@click.pass_context
def unset(context: click.Context, key: str) -> None:
    """Remove a setting."""
    settings = settings_of(context)
    save_setting(key, None)
    put_done(settings, {"key": key, "value": None}, f"Unset {key}.")
