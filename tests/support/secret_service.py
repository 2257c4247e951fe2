"""A real Secret Service on a D-Bus of its own: a desktop's keyring, without a desktop and without touching yours.

    with open_secret_service() as service:
        subprocess.run(command, env={**os.environ, **service.environ})

gnome-keyring-daemon and dbus-daemon (Debian: `gnome-keyring`, `dbus`) run as processes of this test, with files in a
temporary directory. The bus starts no services: what a locked keyring would ask a person in a window is refused at
once, as on a server. `open_silent_bus` is the same bus with somebody in the keyring's place who never answers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECONDS: Final = 20.0
PROGRAMS: Final = ("dbus-daemon", "gnome-keyring-daemon")

_BUS: Final = """<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

_SILENT: Final = """
import time
from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection
bus = open_dbus_connection()
driver = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
bus.send_and_get_reply(new_method_call(driver, "RequestName", "su", ("org.freedesktop.secrets", 0)))
print("mine", flush=True)
while True:
    bus.receive()
"""

_WAIT: Final = """
from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection, Proxy
bus = open_dbus_connection()
driver = Proxy(message_bus, bus)
rule = MatchRule(type="signal", interface="org.freedesktop.DBus", member="NameOwnerChanged")
rule.add_arg_condition(0, "org.freedesktop.secrets")
with bus.filter(rule) as changes:
    driver.AddMatch(rule)
    if not driver.NameHasOwner("org.freedesktop.secrets")[0]:
        bus.recv_until_filtered(changes)
"""

_DO: Final = """
import sys, secretstorage
bus = secretstorage.dbus_init()
collection = secretstorage.get_default_collection(bus)
if sys.argv[1] == "lock":
    collection.lock()
for item in collection.get_all_items() if sys.argv[1] == "list" else ():
    print(item.get_attributes()["username"])
"""


def missing_programs() -> list[str]:
    """What this needs and this computer does not have."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass
class SecretService:
    """A running Secret Service.

    Attributes:
        environ: What a process needs in its environment to find it, and only it.
    """

    environ: dict[str, str]

    def lock(self) -> None:
        """Lock the keyring, as a screen saver may."""
        self._do("lock")

    def accounts(self) -> list[str]:
        """The account names of all entries, sorted."""
        return sorted(self._do("list").splitlines())

    def _do(self, what: str) -> str:
        command = [sys.executable, "-c", _DO, what]
        return _run(command, self.environ)


@contextmanager
def open_secret_service() -> Generator[SecretService]:
    """A Secret Service with an empty, unlocked keyring, for as long as the block lasts."""
    command = ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"]
    with tempfile.TemporaryDirectory(prefix="keyring-") as folder, open_bus() as environ:
        places = {f"XDG_{name}": folder for name in ("DATA_HOME", "CACHE_HOME", "CONFIG_HOME", "RUNTIME_DIR")}
        with _process(command, environ | places) as daemon:
            assert daemon.stdin is not None
            daemon.stdin.write("the keyring's own password")
            daemon.stdin.close()
            _run([sys.executable, "-c", _WAIT], environ)
            yield SecretService(environ)


@contextmanager
def open_silent_bus() -> Generator[dict[str, str]]:
    """A bus where somebody owns the Secret Service's name and answers nothing; the environment that leads to it."""
    with open_bus() as environ, _process([sys.executable, "-c", _SILENT], environ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        yield environ


@contextmanager
def open_bus() -> Generator[dict[str, str]]:
    """A D-Bus with nobody on it; the environment that leads to it."""
    # Not in pytest's directories: their names are too long for the address of a socket.
    with tempfile.TemporaryDirectory(prefix="bus-") as folder:
        socket, config = Path(folder, "bus"), Path(folder, "bus.conf")
        config.write_text(_BUS.format(socket=socket))
        environ = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={socket}"}
        with _process(["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"], environ) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline().startswith("unix:")
            yield environ


@contextmanager
def _process(command: Sequence[str], environ: dict[str, str]) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | environ,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _run(command: Sequence[str], environ: dict[str, str]) -> str:
    ended = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environ, timeout=SECONDS, check=True
    )
    return ended.stdout
