"""`doctor`: it finds what is wrong, names what mends it, and changes nothing."""

from __future__ import annotations

import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from systemprompt_cloud.cli.shared.settings import Settings
from systemprompt_cloud.cli.tools.doctor_files import directory_findings, file_findings
from systemprompt_cloud.cli.tools.doctor_world import login_findings, port_findings, proxy_findings
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.faults.storage import SmallDisk, fill
from tests.support.command import CommandLine, Ran

Owner = tuple[CommandLine, str]
FAR = "https://api.example.com"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of somebody who has nothing yet."""
    return Settings(paths=CloudPaths(directory=tmp_path / "data", state_directory=tmp_path / "state", origin="user"))


def findings(ran: Ran, check: str) -> list[dict[str, Any]]:
    """What was found under this name."""
    return [line for line in ran.lines if line["check"] == check]


def test_all_is_well(owner: Owner) -> None:
    """After an ordinary run nothing is a problem; each line says what was looked at."""
    cli, _ = owner
    ran = cli("doctor", "--json").ended(0)
    checks = {line["check"] for line in ran.lines}
    assert {"directory", "disk", "file", "journal", "port", "browser", "proxy", "login", "api", "clock"} <= checks
    assert [line for line in ran.lines if line["status"] == "failed"] == []
    assert "No problems found." in cli("doctor", "--offline").ended(0).err


def test_in_an_empty_home(cli: CommandLine) -> None:
    """Before the first command: nothing is wrong, nobody is logged in, and looking makes no file."""
    ran = cli("doctor", "--json").ended(0)
    (login,) = findings(ran, "login")
    assert (login["status"], login["hint"]) == ("warning", "Run: systemprompt-cloud login")
    assert findings(ran, "api")[0]["message"].endswith("(asked without a token)")
    assert list(cli.home.rglob("*")) == []


def test_loose_modes(bought: tuple[Path, str], settings: Settings) -> None:
    """Modes that let others in are found, with the command that closes them where reading has not closed them."""
    directory = settings.paths.directory
    shutil.copytree(bought[0] / ".local/share/systemprompt-cloud", directory)
    credentials = directory / "credentials.json"
    credentials.chmod(0o644)
    directory.chmod(0o755)
    (warned,) = [each for each in directory_findings(settings) if each.status == "warning"]
    assert warned.hint == f"chmod 700 {directory}"
    (warned,) = [each for each in file_findings(settings) if each.status == "warning"]
    assert warned.message == f"{credentials} is open to others (mode 0644); it is closed now"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600


def test_full_disk(cli: CommandLine, mounted: Callable[[str], Path]) -> None:
    """Where nothing can be written, something stands in the way; where little can, it is worth a word."""
    place = mounted("64m")
    filler = fill(place)
    ran = cli("--dir", str(place / "here"), "doctor", "--offline").ended(1)
    assert f"✗ disk: only 0 kB free for {place}/here\n  Free some space" in ran.out
    assert ran.err.endswith("1 problem found.\n")
    disk = SmallDisk(place)
    disk.leave(200 * 1024)
    (found,) = findings(cli("--dir", str(place / "here"), "doctor", "--offline", "--json").ended(1), "disk")
    assert (found["status"], found["message"]) == ("failed", f"only 204 kB free for {place}/here")
    disk.leave(2**20)
    (found,) = findings(cli("--dir", str(place / "here"), "doctor", "--offline", "--json").ended(0), "disk")
    assert (found["status"], found["message"]) == ("warning", f"1 MB free for {place}/here")
    filler.unlink()


def test_read_only_disk(settings: Settings, mounted: Callable[[str], Path]) -> None:
    """A small disk that cannot be written is no smaller trouble than a large one."""
    place = mounted("64m")
    disk = SmallDisk(place)
    disk.leave(2**20)
    disk.freeze()
    there = CloudPaths(directory=place / "data", state_directory=place / "data", origin="explicit")
    (found,) = [each for each in directory_findings(replace(settings, paths=there)) if each.check == "disk"]
    assert (found.status, found.message) == ("failed", f"{place} cannot be written")


def test_damage(owner: Owner) -> None:
    """A file that is no longer JSON is a problem, is named, and stays as it is; a journal with a page overwritten
    is found out, and what was set aside long ago is mentioned: a token may be in it."""
    cli, _ = owner
    path = cli.directory / "tenants.json"
    path.write_text("{")
    aside = cli.directory / "credentials.json.unreadable-20260101T000000Z"
    aside.write_text("?")
    data = bytearray(cli.journal.read_bytes())
    data[4096 * 2 : 4096 * 3] = b"\xff" * 4096
    cli.journal.write_bytes(data)
    ran = cli("doctor", "--offline", "--json").ended(1)
    assert {line["check"] for line in ran.lines if line["status"] == "failed"} == {"file", "journal"}
    (failed,) = [line for line in findings(ran, "file") if line["status"] == "failed"]
    assert str(path) in failed["message"]
    assert path.read_text() == "{"
    assert str(aside) in findings(ran, "set aside")[0]["message"]


@pytest.mark.parametrize(("port", "command"), [(8765, "login"), (8766, "checkout")])
def test_busy_port(settings: Settings, port: int, command: str) -> None:
    """A taken port is named, with the option that avoids it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
            taken.listen()
        except OSError:
            pass  # somebody else has it: taken all the same
        (found,) = [each for each in port_findings(settings) if str(port) in each.message]
    assert found.status == "warning"
    assert f"Let {command} take any free one" in found.hint


def test_unreachable_api(owner: Owner) -> None:
    """An API that does not answer is a problem; the rest is told all the same."""
    cli, _ = owner
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    ran = cli("doctor", "--json", "--api-url", url).ended(1)
    (api,) = findings(ran, "api")
    assert api["status"] == "failed"
    assert findings(ran, "journal")[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("url", "proxy", "status", "message"),
    [
        (FAR, "http://ada:hunter2hunter2@proxy.example:3128", "ok", "https calls go through proxy.example:3128"),
        (FAR, "proxy.example:3128", "ok", "https calls go through proxy.example:3128"),
        (FAR, "http://proxy.example", "ok", "https calls go through proxy.example"),
        (FAR, "http://ada:hunter2hunter2@proxy.example:none", "failed", "HTTPS_PROXY names no proxy"),
        ("https://127.0.0.1:1", "http://proxy.example:3128", "ok", "none for 127.0.0.1"),
    ],
)
def test_proxy(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, url: str, proxy: str, status: str, message: str
) -> None:
    """It is named as it is used, without its password; what happens on this computer is none of its business."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    (found,) = [each for each in proxy_findings(replace(settings, api_url=url)) if each.check == "proxy"]
    assert (found.status, found.message) == (status, message)


def test_certificates(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate file that is not there is a problem."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    (found,) = [each for each in proxy_findings(settings) if each.status == "failed"]
    assert "/nowhere/ca.pem" in found.message


def test_login_of_the_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What mends a token of the environment is another one, there: no `login` would, in the container least of all."""
    monkeypatch.delenv("SYSTEMPROMPT_API_TOKEN", raising=False)
    monkeypatch.setenv("FLY_APP_NAME", "app")
    (found,) = login_findings(settings)
    assert (found.status, "SYSTEMPROMPT_API_TOKEN" in found.hint) == ("warning", True)
    monkeypatch.setenv("SYSTEMPROMPT_API_TOKEN", "no token at all")
    monkeypatch.setenv("SYSTEMPROMPT_USER_EMAIL", "ada@example.com")
    (found,) = login_findings(settings)
    assert (found.status, found.hint) == ("failed", "Set a fresh one, or unset SYSTEMPROMPT_API_TOKEN.")
