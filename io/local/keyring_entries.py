"""A login's entries in the system's keyring, and how they and `credentials.json` change together.

Theory. Two stores cannot be changed in one step, so one of them decides: the file. A login in the keyring has a file
like any other, with a *marker* in the token's place; whatever the file does not point at does not count. Each file has
two entries in the keyring, a and b, and takes turns: a new login goes into the entry the file does not name, then the
file is replaced (one rename), then the old entry is forgotten. Killed between any two of these, the file still names an
entry that is whole. A *note* beside the file, written before the first entry and removed after the last, says that the
keyring may hold something: so a later login or logout cleans up after a crash, after a keyring that was locked, and
after the Rust CLI, which knows of no marker and simply replaces the file.

An entry holds the whole login, and counts only for the file that says the same about it: a `credentials.json` that came
with a project and names another API gets no token (SECURITY 7). The entry's name is the file's real path, so such a
file reaches no entry of another directory either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ...base.files import remove_private, write_private
from ...base.log import get_logger
from ...errors import KeyringUnavailable
from .keyring_store import SERVICE, KeyringStore

logger = get_logger(__name__)

VARIABLE: Final = "SYSTEMPROMPT_KEYRING"

_MARKER: Final = f"keyring:{SERVICE}/"
_SLOTS: Final = ("a", "b")
_OFF: Final = frozenset({"0", "false", "f", "no", "n", "off"})
_NOTE: Final = f"The system's keyring may hold tokens of this login, under {SERVICE}; logging out removes them.\n"


def is_marker(token: str) -> bool:
    """Whether this stands for a token in the keyring. No token looks like it: it begins with `keyring:`."""
    return token.startswith(_MARKER)


def variable_wish(environ: Mapping[str, str]) -> bool | None:
    """What SYSTEMPROMPT_KEYRING asks for: the keyring, the file (0, false, no, off), or nothing when it is empty."""
    value = environ.get(VARIABLE, "").strip().lower()
    return value not in _OFF if value else None


def note_of(path: Path) -> Path:
    """The note that is beside `credentials.json` while the keyring may hold something of it."""
    return path.with_name(f"{path.name}.keyring")


def entry_named(path: Path, marker: str) -> str:
    """The entry's account name for a file and its marker."""
    return _entry(path, marker.removeprefix(_MARKER))


def _entry(path: Path, slot: str) -> str:
    real = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - a str, for fsencode
    return f"{os.fsencode(real).decode(errors='backslashreplace')} ({slot})"


def usable(store: KeyringStore, path: Path) -> bool:
    """Whether the keyring can be used now; if not, a warning says why, and that the file is taken instead."""
    try:
        store.probe(_entry(path, _SLOTS[0]))
    except KeyringUnavailable as exc:
        _warn_of_file(path, exc)
        return False
    return True


def put(store: KeyringStore, path: Path, plain: dict[str, Any], before: str) -> dict[str, Any]:
    """Put a login into the keyring, beside the one that counts. The file's lock is held.

    Args:
        store: The keyring.
        path: `credentials.json`.
        plain: What the file would hold.
        before: The token or marker that the file holds now, or nothing.

    Returns:
        What the file is to hold: the marker instead of the token, or, after a warning, the token after all.

    Raises:
        Io: The note cannot be written; nothing was changed.
    """
    slot = _SLOTS[before == _MARKER + _SLOTS[0]]
    write_private(note_of(path), _NOTE.encode())
    try:
        store.set(_entry(path, slot), msgspec.json.encode(plain).decode())
    except KeyringUnavailable as exc:
        _warn_of_file(path, exc)
        return plain
    return {**plain, "api_token": _MARKER + slot}


def forget_others(store: KeyringStore, path: Path, token: str) -> None:
    """Remove from the keyring what the file does not name, and the note when that is all. The file's lock is held.

    A keyring that cannot be used is a warning: the note stays, so the next login or logout tries again.

    Args:
        store: The keyring.
        path: `credentials.json`.
        token: The token or marker that counts now; empty for none.
    """
    note = note_of(path)
    if not os.path.lexists(note):
        return
    try:
        store.forget([_entry(path, slot) for slot in _SLOTS if token != _MARKER + slot])
    except KeyringUnavailable as exc:
        logger.warning(
            "%s; a token may be left in it, under %s. The next login or logout here removes it",
            exc.user_message,
            SERVICE,
        )
        return
    if not is_marker(token):
        remove_private(note)


def forget_all(store: KeyringStore, path: Path, token: str) -> None:
    """Remove everything of this file from the keyring, as `forget_others` does.

    Args:
        store: The keyring.
        path: `credentials.json`.
        token: What the file holds, as far as it can be read: a marker proves an entry, note or no note.
    """
    if is_marker(token) and not os.path.lexists(note_of(path)):
        write_private(note_of(path), _NOTE.encode())
    forget_others(store, path, "")


def _warn_of_file(path: Path, exc: KeyringUnavailable) -> None:
    logger.warning("%s; the token goes into the file %s", exc.user_message, path)
