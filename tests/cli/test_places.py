"""A place that cannot keep a login is refused before a person is sent to a browser: by name, with a way out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import Io

from tests.faults.storage import small_disk
from tests.support.command import CommandLine, Ran
from tests.support.missing import missing

LOGIN = ("login", "--port", "0", "--no-browser")
STARTS = (LOGIN, ("up", "--plan", "plan_sandbox_starter", "--login-port", "0", "--no-browser"))
WAY_OUT = "Fix that, or name another directory, on a local disk, with --dir."

SHIMS = {
    "chmod": "int fchmod(int f, unsigned m) { (void)f; (void)m; errno = EPERM; return -1; }\n"
    "int chmod(const char *p, unsigned m) { (void)p; (void)m; errno = EPERM; return -1; }\n",
    "flock": "int flock(int f, int o) { (void)f; (void)o; errno = ENOSYS; return -1; }\n",
}


def refused(cli: CommandLine, words: tuple[str, ...], kind: str, message: str, hint: str) -> Ran:
    """The command ends at once, for people and for programs; nobody was invited."""
    ran = cli(*words, "--json")
    assert ran.code in {1, 2}
    assert "Open this" not in ran.err
    assert "Traceback" not in ran.err
    (last,) = ran.lines
    assert (last["error"], last["message"], last["hint"]) == (kind, message, hint)
    assert f"Error: {message}\n{hint}\n" in cli(*words).err
    return ran


def preloaded(cli: CommandLine, name: str) -> CommandLine:
    """The command line where a system call is refused, as on a file system without it."""
    compiler = shutil.which("cc")
    if compiler is None:
        missing("no C compiler, to refuse a system call with (apt-get install gcc)")
    source, shim = cli.home.parent / f"{name}.c", cli.home.parent / f"{name}.so"
    source.write_text(f"#include <errno.h>\n{SHIMS[name]}")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(shim), str(source)], check=True)
    cli.environ["LD_PRELOAD"] = str(shim)
    cli.real = True
    return cli


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("chmod", "cannot keep a file private, chmod is refused: Operation not permitted"),
        ("flock", "has no file locks: Function not implemented"),
    ],
)
def test_a_file_system_without_modes_or_locks(cli: CommandLine, name: str, problem: str) -> None:
    """FAT, drives of Windows, some network mounts: a token could be read by all, or two processes drive one flow."""
    preloaded(cli, name)
    for words in STARTS:
        refused(cli, words, "DirectoryUnusable", f"{cli.directory} {problem}", WAY_OUT)


@pytest.mark.parametrize("which", ["data", "state"])
def test_a_disk_that_cannot_be_written(cli: CommandLine, which: str) -> None:
    """Either place: the one of the credentials, and the one of the journal."""
    place = cli.directory if which == "data" else cli.journal.parent
    place.mkdir(parents=True)
    try:
        with small_disk(place) as disk:
            disk.freeze()
            refused(cli, LOGIN, "DirectoryUnusable", f"{place} cannot be written: Read-only file system", WAY_OUT)
    except Io as exc:
        missing(str(exc))


def test_a_resumed_flow_stays_with_its_directory(cli: CommandLine) -> None:
    """With another `--dir` it would not be found: it is resumed when its own can be written again."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    running.interrupt()
    running.wait().ended(130)
    shutil.rmtree(cli.directory)
    try:
        cli.directory.mkdir()
        with small_disk(cli.directory) as disk:
            disk.freeze()
            ran = cli("flows", "resume", "--no-browser", "--json").ended(8)
            (last,) = ran.lines
            assert last["error"] == "DirectoryUnusable"
            assert last["hint"] == f"Fix that, then run: {last['resume']}"
            assert "Use the tab" not in ran.err
    except Io as exc:
        missing(str(exc))
    cli.play("flows", "resume", "--no-browser").ended(0)


@pytest.mark.parametrize("which", ["data", "state", "named"])
def test_a_directory_that_is_a_link(cli: CommandLine, tmp_path: Path, which: str) -> None:
    """It is refused with the real path, and by that it works."""
    real = tmp_path / "my dots"
    real.mkdir(mode=0o700)
    place = {"data": cli.directory, "state": cli.journal.parent, "named": tmp_path / "link"}[which]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(real)
    words = ("--dir", str(place), *LOGIN) if which == "named" else LOGIN
    message = f"{place} is a symbolic link, to {real}; it is not followed"
    refused(cli, words, "UnsafeFile", message, f"Use the directory it leads to: --dir '{real}'")
    cli.play("--dir", str(real), *LOGIN).ended(0)
    assert (real / "credentials.json").exists()


def test_links_above_the_directory_are_followed(cli: CommandLine, tmp_path: Path) -> None:
    """A home that is a link, as /home to /var/home is, and a ~/.local that is one."""
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (cli.home / ".local").symlink_to(real)
    cli.login()
    cli("whoami").ended(0)
    link = tmp_path / "link"
    link.symlink_to(cli.home)
    cli("whoami", HOME=str(link)).ended(0)


@pytest.mark.parametrize("name", ["credentials.json", "tenants.json", "credentials.json.lock"])
def test_a_file_that_is_a_link(cli: CommandLine, tmp_path: Path, name: str) -> None:
    """What would be refused after the login is refused before it."""
    cli.directory.mkdir(parents=True, mode=0o700)
    (cli.directory / name).symlink_to(tmp_path / "elsewhere")
    for words in STARTS:
        ran = cli(*words, "--json").ended(1)
        assert ran.lines[-1]["error"] == "UnsafeFile"
        assert str(cli.directory / name) in ran.lines[-1]["message"]
        assert "symbolic link" in ran.err
        assert "Open this" not in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user(cli: CommandLine) -> None:
    """Also one that root could write."""
    cli.directory.mkdir(parents=True)
    os.chown(cli.directory, 1234, 1234)
    hint = "Remove it, or point --dir at a directory of your own."
    refused(cli, LOGIN, "UnsafeFile", f"{cli.directory} belongs to user 1234, not to user 0 who runs this", hint)


def test_a_deployment_needs_no_place_for_credentials(cli: CommandLine, tmp_path: Path) -> None:
    """With a token of the environment nothing is stored but the journal."""
    cli.directory.parent.mkdir(parents=True)
    cli.directory.symlink_to(tmp_path)
    ran = cli("deploy", "registry.example/team/app:1", "--tenant", "tenant_1", "--json", SYSTEMPROMPT_API_TOKEN="x.y.z")
    assert "symbolic link" not in ran.err
