"""The secrets of running flows: one 0600 file per flow, gone when the flow has ended.

The journal is made to be read, copied and exported, so it may hold no secret; yet a flow that is killed between
receiving a token and saving it must find that token again. So the token goes here first, and the journal's event
carries only the reference `vault:<name>`. The order matters: `put` returns when the secret is on disk, and only then is
the event that refers to it written.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from ...base.decoding import UNREADABLE
from ...base.errors import CloudError
from ...base.files import ensure_private_dir, read_private, remove_private, set_aside, write_private
from ...base.log import get_logger
from ...base.redaction import forget, new_owner, register_secret
from ..errors import VaultMissing

logger = get_logger(__name__)

PREFIX: Final = "vault:"
_JOURNAL: Final = "@journal"
"""Where a file has the identity of its flow's journal; no secret has such a name."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_FILE: Final = re.compile(r"([A-Za-z0-9._-]+)\.json(?:\.unreadable-[0-9TZ-]+)?")
_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
PLAIN_CHARACTERS: Final = 200
"""The longest flow id that is a file's name as it is: with what is put before and behind it, 255 is the most."""


def file_name(flow: str) -> str:
    """The name of the file that holds a flow's secrets: its id, or a hash of one that is no file's name.

    Ids of children have their parents' ids and the names of machines in them, which may be long, and could be any text
    before they were checked.
    """
    if len(flow) <= PLAIN_CHARACTERS and _NAME.fullmatch(flow):
        return f"{flow}.json"
    return f"@{hashlib.sha256(flow.encode(errors='surrogatepass')).hexdigest()}.json"


def is_secret_name(name: object) -> bool:
    """Whether a secret may have this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def flow_of_file(name: str) -> str | None:
    """The flow whose secrets a file holds or held before it was set aside; None when the name does not say it."""
    found = None if is_temporary(name) else _FILE.fullmatch(name)
    return None if found is None else found[1]


def is_temporary(name: str) -> bool:
    """Whether a file is one that a killed process had not finished writing."""
    return _TEMPORARY.fullmatch(name) is not None


def _read_all(path: Path) -> dict[str, str]:
    data = read_private(path)
    return {} if data is None else msgspec.json.decode(data, type=dict[str, str])


class VaultFiles:
    """The vault of one journal.

    The redactor hides what was put and got, until the flow's secrets are discarded or `forget` is called. A line logged
    after that may still quote a secret, in a traceback say; only its shape hides it then (a JWT, `Bearer`, `token=`).

    Args:
        directory: Where the files are; created 0700 by the first `put`.
        journal: The identity of the journal, where secrets are put: another journal may come to use this directory.
    """

    def __init__(self, directory: Path, journal: str | None = None) -> None:
        self.directory: Final = directory.absolute()
        self.journal: Final = journal
        # Another vault of the same directory may hold the same flow's secrets for longer.
        self._name: Final = new_owner("vault")
        self._met: Final = set[str]()
        # A flow has one driver, but its activities may put secrets from several threads: read, add and write as one.
        self._one_writer: Final = threading.Lock()

    def _path(self, flow_id: str) -> Path:
        return self.directory / file_name(flow_id)

    def _hide(self, flow_id: str, secret: str) -> None:
        self._met.add(flow_id)
        register_secret(secret, self._owner(flow_id))

    def _owner(self, flow_id: str) -> str:
        return f"{self._name}, flow {flow_id}"

    def _read(self, path: Path) -> dict[str, str]:
        """Read a flow's secrets; one of UNREADABLE when the file is not what we wrote."""
        held = _read_all(path)
        held.pop(_JOURNAL, None)
        return held

    def put(self, flow_id: str, name: str, secret: str) -> str:
        """Keep a secret; it is on disk when this returns.

        Args:
            flow_id: Whose secret it is.
            name: What it is called within the flow; a second put of the same name replaces the first.
            secret: The secret. From now on the redactor hides it too, as long as the flow has secrets.

        Returns:
            The reference `vault:<name>`, fit for the journal.

        Raises:
            ValueError: The name has other characters than letters, digits, dot, dash and underscore.
            Io: The file cannot be written; nothing was kept.
        """
        path = self._path(flow_id)
        if not is_secret_name(name):
            raise ValueError(f"not a secret's name: {name!r} (letters, digits, dot, dash and underscore only)")
        self._hide(flow_id, secret)
        with self._one_writer:
            ensure_private_dir(self.directory)
            try:
                held = self._read(path)
            except UNREADABLE:
                held = {}
                aside = set_aside(path)
                logger.warning("the secrets of flow %s were unreadable; their file is %s now", flow_id, aside)
            journal = {} if self.journal is None else {_JOURNAL: self.journal}
            write_private(path, msgspec.json.encode({**journal, **held, name: secret}))
        return f"{PREFIX}{name}"

    def get(self, flow_id: str, reference: str) -> str:
        """Return the secret a reference stands for.

        Args:
            flow_id: Whose secret it is.
            reference: What `put` returned.

        Raises:
            VaultMissing: It is not there, or its file is unreadable. Cancel the flow and start again.
            Io: The file is there and cannot be read.
        """
        path = self._path(flow_id)
        try:
            held = self._read(path)
        except UNREADABLE as exc:
            raise VaultMissing(f"the secrets of flow {flow_id} in {path} are unreadable") from exc
        secret = held.get(reference.removeprefix(PREFIX)) if reference.startswith(PREFIX) else None
        if secret is None:
            raise VaultMissing(f"flow {flow_id} refers to {reference}, and {path} does not hold it")
        self._hide(flow_id, secret)
        return secret

    def has(self, flow_id: str, reference: str) -> bool:
        """Whether `get` would return a secret.

        Raises:
            Io: The file is there and cannot be read.
        """
        try:
            self.get(flow_id, reference)
        except VaultMissing:
            return False
        return True

    def entries(self, flow_id: str) -> dict[str, str]:
        """Every secret of a flow, by name, for a backup.

        Raises:
            Io: The file cannot be read.
            ValueError: It is not what we wrote: one of `UNREADABLE`.
        """
        held = self._read(self._path(flow_id))
        for secret in held.values():
            self._hide(flow_id, secret)
        return held

    def restore(self, flow_id: str, entries: Mapping[str, str]) -> None:
        """Put back what `entries` returned, in place of what is there. Raises `Io`."""
        for secret in entries.values():
            self._hide(flow_id, secret)
        with self._one_writer:
            ensure_private_dir(self.directory)
            journal = {} if self.journal is None else {_JOURNAL: self.journal}
            write_private(self._path(flow_id), msgspec.json.encode({**journal, **entries}))

    def make_known(self, flow_id: str) -> None:
        """Have the redactor hide every secret of a flow, whether or not it is read with `get`.

        A file that cannot be read is only logged here; `get` raises the error.
        """
        path = self._path(flow_id)
        try:
            held = self._read(path)
        except (CloudError, *UNREADABLE) as exc:
            logger.warning("the secrets of flow %s in %s cannot be read: %s", flow_id, path, exc)
            return
        for secret in held.values():
            self._hide(flow_id, secret)

    def is_ours(self, path: Path) -> bool:
        """Whether a file in the directory says that its secrets are of a flow of this journal."""
        try:
            return self.journal is not None and _read_all(path).get(_JOURNAL) == self.journal
        except (CloudError, *UNREADABLE):
            return False

    def discard(self, flow_id: str) -> None:
        """Forget every secret of a flow, here and in the redactor; none there is fine.

        Raises:
            Io: The file cannot be removed; the redactor still hides what is in it.
        """
        with self._one_writer:
            self._discard(flow_id)

    def discard_at_once(self, flow_id: str) -> bool:
        """`discard`, unless it would have to wait for a secret that is being put: then False, and nothing is done."""
        if not self._one_writer.acquire(blocking=False):
            return False
        try:
            self._discard(flow_id)
        finally:
            self._one_writer.release()
        return True

    def _discard(self, flow_id: str) -> None:
        remove_private(self._path(flow_id))
        self._met.discard(flow_id)
        forget(self._owner(flow_id))

    def forget(self) -> None:
        """Let the redactor forget every secret that was put or got here. The files stay; `get` makes it known again."""
        while self._met:
            forget(self._owner(self._met.pop()))
