"""The other side of `keyring_store.py`: one question to the operating system's keyring, asked by a process of its own.

Run by its path, never imported by the package: it knows the standard library and `keyring`, nothing of ours. The
question comes on stdin and the answer leaves on stdout, a JSON object each, so that no secret is in an argument or
in the environment, where other programs could read it. What a backend prints goes nowhere.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

RECOMMENDED: Final = 1.0
"""The priority from which `keyring` recommends a backend. Files in plain text and the like are below it."""


class Refused(Exception):
    """The keyring cannot be used; the kind becomes the answer's `trouble`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def choose_backend() -> KeyringBackend:
    """The backend that was configured, or the best one there is; never one that only looks like a keyring.

    Raises:
        Refused: There is none, or the one that was configured is not safe.
    """
    from keyring import get_keyring
    from keyring.backend import get_all_keyring
    from keyring.backends.chainer import ChainerBackend

    configured = get_keyring()
    if not isinstance(configured, ChainerBackend):
        if _priority(configured) >= RECOMMENDED:
            return configured
        name = f"{type(configured).__module__}.{type(configured).__name__}"
        if name == "keyring.backends.fail.Keyring":
            raise Refused("none", "this system offers no keyring")
        raise Refused("insecure", f"{name} is not a safe place for a secret")
    # A chain tries its backends in turn and would end at an unsafe one: take the best safe one instead.
    safe = [each for each in get_all_keyring() if not isinstance(each, ChainerBackend)]
    best = max(safe, key=_priority, default=configured)
    if _priority(best) < RECOMMENDED or isinstance(best, ChainerBackend):
        raise Refused("none", "this system offers no safe keyring")
    return best


def _priority(backend: KeyringBackend) -> float:
    try:
        return float(type(backend).priority)
    except (RuntimeError, NotImplementedError):  # what a backend raises that cannot work here
        return -1.0


def ask(question: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked: `get`, `set` or `forget`. Raises `Refused`."""
    try:
        import keyring
        from keyring.errors import InitError, KeyringError, KeyringLocked
    except ImportError as exc:
        raise Refused("missing", f"the Python package keyring cannot be imported ({exc})") from exc
    service: str = question["service"]
    try:
        keyring.set_keyring(choose_backend())
        if question["do"] == "get":
            return {"secret": keyring.get_password(service, question["account"])}
        if question["do"] == "set":
            keyring.set_password(service, question["account"], question["secret"])
            return {"kept": keyring.get_password(service, question["account"]) == question["secret"]}
        for account in question["accounts"]:
            if keyring.get_password(service, account) is not None:
                keyring.delete_password(service, account)
    except KeyringLocked as exc:
        raise Refused("locked", "it is locked") from exc
    except InitError as exc:  # without a collection there is a prompt to make one, which nobody answered
        raise Refused("locked", f"it cannot be opened ({exc})") from exc
    except KeyringError as exc:
        raise Refused("failed", str(exc) or type(exc).__name__) from exc
    return {}


def main() -> None:
    """Read the question, answer it."""
    answer = os.fdopen(os.dup(1), "w")  # not inherited by whatever a backend starts
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    question = json.load(sys.stdin)
    os.dup2(nowhere, 0)  # a backend that asks for a password at the terminal gets none
    try:
        reply = ask(question)
    except Refused as exc:
        reply = {"trouble": exc.kind, "message": str(exc)}
    except Exception as exc:  # noqa: BLE001 a backend may raise anything of its own: D-Bus errors, OSError
        reply = {"trouble": "failed", "message": f"{type(exc).__name__}: {exc}"}
    json.dump(reply, answer)
    answer.close()


if __name__ == "__main__":
    main()
