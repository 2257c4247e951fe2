"""The operating system's keyring, bounded in time: where a token may be kept instead of in a file.

Theory. A keyring is somebody else's program at the other end of D-Bus, or of whatever the system has: it may be absent,
locked, waiting for a person in a window nobody sees, or silent for ever, and the libraries that speak to it wait as
long as it pleases. So each question is asked by a child process (`keyring_child.py`), which is killed when its time is
up. A thread could be abandoned but not ended: it might store a token minutes after we had given up and gone another
way. A child costs a quarter of a second, at a login and once per store that reads; a token that was read is
remembered as long as its `KeyringStore` lives, or until the entry is changed.

Only real keyrings count. What `keyring` itself does not recommend (files in plain text, the null backend) is refused:
a person who asks for the keyring must not get something weaker than our own 0600 file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ...base.redaction import redact, register_held
from ...errors import KeyringUnavailable

SERVICE: Final = "systemprompt-cloud"
PROBE_SECONDS: Final = 3.0
"""For finding out whether it works, and for every change: a file's lock is held meanwhile."""
READ_SECONDS: Final = 20.0
"""For reading: a person may be typing the keyring's own password into a window."""

_CHILD: Final = Path(__file__).with_name("keyring_child.py")

_INSTALL: Final = "Install it (pip install 'systemprompt-cloud[keyring]'), then run the same command again."
_HINTS: Final = {
    "missing": _INSTALL,
    "locked": "Unlock the keyring (logging in to the desktop usually does), then run the same command again.",
}


class _Reply(msgspec.Struct):
    secret: str | None = None
    kept: bool = True
    trouble: str = ""
    message: str = ""


class _Remembered(msgspec.Struct, frozen=True, weakref=True):
    of: Any
    secret: str

    def __post_init__(self) -> None:
        register_held(self, [self.secret])


class KeyringStore:
    """The entries of one service in the operating system's keyring. Holds nothing open.

    Args:
        service: What the entries are filed under.
        probe_seconds: The most a look or a change may take.
        read_seconds: The most `get` may take.
    """

    def __init__(
        self, service: str = SERVICE, *, probe_seconds: float = PROBE_SECONDS, read_seconds: float = READ_SECONDS
    ) -> None:
        self.service = service
        self.probe_seconds = probe_seconds
        self.read_seconds = read_seconds
        self._remembered: dict[str, _Remembered] = {}

    def probe(self, account: str) -> None:
        """Make sure that it can be used now, without changing anything.

        Args:
            account: The entry that is going to be set; it need not exist.

        Raises:
            KeyringUnavailable: It cannot; the message says why, the hint what to do.
        """
        self._ask(self.probe_seconds, do="get", account=account)

    def get(self, account: str) -> str | None:
        """An entry's secret; None when there is no such entry. Raises `KeyringUnavailable`."""
        return self._ask(self.read_seconds, do="get", account=account).secret

    def remembered(self, account: str, of: object) -> str | None:
        """What `remember` was given last for an entry, if its `of` (whatever tells one login from the next) is this."""
        known = self._remembered.get(account)
        return known.secret if known is not None and known.of == of else None

    def remember(self, account: str, of: object, secret: str) -> None:
        """Keep what was read from an entry, so that the keyring is asked once."""
        self._remembered[account] = _Remembered(of, secret)

    def set(self, account: str, secret: str) -> None:
        """Make or replace an entry, and read it back. Raises `KeyringUnavailable`; then it may or may not be there."""
        self._remembered.pop(account, None)
        if not self._ask(self.probe_seconds, do="set", account=account, secret=secret).kept:
            raise KeyringUnavailable("the system's keyring does not give back what was put into it")

    def forget(self, accounts: Sequence[str]) -> None:
        """Remove entries, as far as they exist. Raises `KeyringUnavailable`; then some may be left."""
        for account in accounts:
            self._remembered.pop(account, None)
        self._ask(self.probe_seconds, do="forget", accounts=list(accounts))

    def _ask(self, seconds: float, **question: Any) -> _Reply:
        if not sys.executable or getattr(sys, "frozen", False):
            raise KeyringUnavailable(
                "the system's keyring cannot be asked: there is no Python interpreter to ask it with"
            )
        import subprocess

        try:
            # -P: this file's own directory is not searched for modules, or `base/files.py` would be `files`. A session
            # of its own: no terminal to ask for a password at, and Ctrl-C is ours to handle.
            ended = subprocess.run(  # noqa: S603 our own file, by our own interpreter
                [sys.executable, "-P", os.fspath(_CHILD)],
                input=msgspec.json.encode({"service": self.service, **question}),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise KeyringUnavailable(
                f"the system's keyring did not answer within {seconds:g} s; it may be locked and waiting for you"
            ) from exc
        except OSError as exc:
            raise KeyringUnavailable(f"the system's keyring cannot be asked: {exc.strerror}") from exc
        try:
            reply = msgspec.json.decode(ended.stdout, type=_Reply)
        except msgspec.MsgspecError as exc:
            raise KeyringUnavailable(
                f"the system's keyring cannot be asked: the process that asks ended with {ended.returncode}"
            ) from exc
        if reply.trouble:
            raise KeyringUnavailable(
                f"the system's keyring cannot be used: {redact(reply.message)}", hint=_HINTS.get(reply.trouble)
            )
        return reply
