"""Disks, files and networks that fail: what is said, what mends it, the exit code, and that nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import pytest
from systemprompt_cloud.base.errors import Io

from tests.faults.storage import small_disk
from tests.support.command import CommandLine
from tests.support.missing import missing

LOGIN = ("login", "--port", "0", "--no-browser")
DOWN = "http://127.0.0.1:9"
NEEDS_API = (
    ("plans",),
    ("whoami", "--check"),
    ("checkout", "--plan", "x", "--no-browser"),
    ("provision", "tnt_1", "--timeout", "1"),
)


REMOVED = ("sh", "-c", 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && exec "$@"', "sh")
"""Runs a command in a directory that is not there any more."""


def interrupted(cli: CommandLine, *options: str) -> str:
    """Start a login and leave it waiting; its id."""
    running = cli.begin(*options, *LOGIN, "--json")
    running.wait_invited()
    running.interrupt()
    return str(running.wait().ended(130).lines[-1]["flow"])


def test_a_directory_that_was_removed(cli: CommandLine) -> None:
    """What was removed while somebody stood in it is said, with the mend; completion stays silent there."""
    cli.before = REMOVED
    ran = cli("tenants", "list").ended(1)
    assert "the current directory cannot be found" in ran.err
    assert "Change to another one." in ran.err
    offered = cli(
        _SYSTEMPROMPT_CLOUD_COMPLETE="complete_bash", COMP_WORDS="systemprompt-cloud tenants show ", COMP_CWORD="3"
    ).ended(0)
    assert (offered.out.strip(), offered.err) == ("", "")


def test_unsafe_api_that_is_stored(cli: CommandLine) -> None:
    """Who named no API is not told to check what they named: the file is named that did, and what mends it does."""
    cli.login()
    file = cli.directory / "credentials.json"
    stored = json.loads(file.read_text()) | {"api_url": "http://cloud.example"}
    file.write_text(json.dumps(stored))
    del cli.environ["SYSTEMPROMPT_API_URL"]
    for words in (["plans"], LOGIN, ("up", "--plan", "x"), ["tenants", "sync"]):
        told = cli(*words, "--json").ended(1).lines[-1]
        assert told["error"] == "UnsafeUrl"
        assert told["message"].startswith(f"the api_url in {file} must be https, or http on this machine")
        assert told["hint"] == f"Remove it, then log in: rm {file}"
    (api,) = (line for line in cli("doctor", "--json").ended(1).lines if line["check"] == "api")
    assert (api["status"], api["hint"]) == ("failed", told["hint"])
    file.unlink()
    assert "Log in: systemprompt-cloud login" in cli("plans").ended(4).err


def test_journal_on_a_read_only_disk(cli: CommandLine) -> None:
    """Reading and going on are refused with the reason and the mend; writable again, the flow goes on."""
    place = cli.home / "disk"
    here = ("--dir", str(place / "here"))
    try:
        with small_disk(place) as disk:
            flow = interrupted(cli, *here)
            disk.freeze()
            for words in (("flows", "list"), ("flows", "resume", "--no-browser")):
                ran = cli(*here, *words).ended(1)
                assert f"cannot open the journal {place}/here/journal.sqlite3" in ran.err
                assert "the file system is read-only" in ran.err
                assert f"Make the disk of {place}/here writable again" in ran.err
                assert "Open this" not in ran.err
            for name in ("here", "new"):
                last = cli("--dir", str(place / name), *LOGIN, "--json").ended(1).lines[-1]
                assert (last["error"], last["exit_code"]) == ("DirectoryUnusable", 1)
                elsewhere = cli("--dir", str(place / name), *LOGIN).ended(1)
                assert f"{place}/{name} cannot be" in elsewhere.err
                assert ": Read-only file system" in elsewhere.err
                assert "name another directory, on a local disk, with --dir" in elsewhere.err
                assert "Open this" not in elsewhere.err
            disk.grow()
            done = cli.play(*here, "flows", "resume", "--no-browser", "--json").ended(0)
            assert done.lines[-1]["flow"] == flow
    except Io as exc:
        missing(str(exc))


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_journal_that_is_cut_off(cli: CommandLine, size: int) -> None:
    """It is set aside, under a name that is said; the next command works, and what was cut off is kept."""
    interrupted(cli)
    assert not cli.journal.with_name("journal.sqlite3-wal").exists()
    rest = cli.journal.read_bytes()[:size]
    cli.journal.write_bytes(rest)
    ran = cli("flows", "list", "--json").ended(1)
    (aside,) = cli.journal.parent.glob("journal.sqlite3.unreadable-*")
    (line,) = ran.lines
    assert line["error"] == "JournalCorrupted"
    assert f"{cli.journal} is damaged" in line["message"]
    assert str(aside) in line["message"]
    assert "Run the same command again" in line["hint"]
    assert aside.read_bytes() == rest
    assert "No flows found" in cli("flows", "list").ended(0).err
    cli.login()
    assert aside.read_bytes() == rest


@pytest.fixture
def plain(cli: CommandLine) -> CommandLine:
    """The command line of somebody whom the system refuses files: to root it does so only when told to."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            missing("no setpriv, to take root's privileges away (apt-get install util-linux)")
        cli.before = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    return cli


def test_credentials_nobody_may_read(plain: CommandLine) -> None:
    """Not taken for none: named, with the reason, by every command that needs them; the file stays as it is."""
    plain.login()
    file = plain.directory / "credentials.json"
    before = file.read_bytes()
    file.chmod(0)
    for words in (*NEEDS_API, ("whoami",)):
        ran = plain(*words).ended(1)
        assert f"cannot read {file}: Permission denied" in ran.err
        assert "`systemprompt-cloud login` sets it aside" in ran.err
        assert plain(*words, "--json").ended(1).lines[-1]["error"] == "Io"
    file.chmod(0o600)
    assert file.read_bytes() == before
    plain("whoami", "--check").ended(0)


def test_login_over_credentials_nobody_may_read(plain: CommandLine) -> None:
    """A new login sets them aside and is stored; what could not be read is kept."""
    plain.login()
    file = plain.directory / "credentials.json"
    before = file.read_bytes()
    file.chmod(0)
    plain.login()
    (aside,) = file.parent.glob("credentials.json.unreadable-*")
    aside.chmod(0o600)
    assert aside.read_bytes() == before
    plain("whoami", "--check").ended(0)


def test_directory_nobody_may_write_to(plain: CommandLine) -> None:
    """Named, with the reason and how to look at it; nothing is started."""
    closed = plain.home / "closed"
    closed.mkdir(mode=0o500)
    ran = plain("--dir", str(closed / "here"), *LOGIN).ended(1)
    assert f"{closed}/here cannot be used: Permission denied" in ran.err
    assert f"see who may write there: ls -ld {closed}/here {closed}\n" in ran.err
    assert "Open this" not in ran.err


def test_credentials_that_are_a_directory(cli: CommandLine) -> None:
    """Named as what they are, by every command that needs them."""
    file = cli.directory / "credentials.json"
    file.mkdir(parents=True, mode=0o700)
    (file / "kept").write_text("")
    for words in (*NEEDS_API, ("whoami",)):
        last = cli(*words, "--json").ended(1).lines[-1]
        assert last["error"] == "Io"
        assert f"cannot read {file}: it is a directory" in last["message"]
        assert last["hint"]
    assert (file / "kept").exists()


def stored_for(cli: CommandLine, url: str, cloud: str) -> bytes:
    """Make the stored login one at `url`; the file's content."""
    file = cli.directory / "credentials.json"
    file.write_bytes(file.read_bytes().replace(cloud.encode(), url.encode()))
    return file.read_bytes()


@pytest.mark.parametrize("words", NEEDS_API, ids=lambda words: words[0])
def test_api_that_is_down(cli: CommandLine, cloud: str, words: tuple[str, ...]) -> None:
    """The address and the reason are said; a flow waits and can be gone on with, and the login stands."""
    cli.login()
    before = stored_for(cli, DOWN, cloud)
    ran = cli("--api-url", DOWN, *words)
    ran.ended(8 if words[0] in {"checkout", "provision"} else 1)
    assert DOWN in ran.err
    assert "refused" in ran.err
    assert "Check the connection and --api-url" in ran.err or words[0] == "provision"
    assert ("flows resume" in ran.err) is (words[0] in {"checkout", "provision"})
    assert (cli.directory / "credentials.json").read_bytes() == before


def test_path_that_is_not_the_apis(cli: CommandLine, cloud: str) -> None:
    """Who answers that there is nothing like this is not the API that was meant, whatever it says of itself."""
    cli.login()
    ran = cli("plans", "--api-url", f"{cloud}/api").ended(1)
    assert f"{cloud}/api/api/v1/" in ran.err
    assert "Check --api-url" in ran.err


@pytest.mark.parametrize("words", NEEDS_API, ids=lambda words: words[0])
def test_api_that_speaks_html(cli: CommandLine, cloud: str, clouds: Callable[..., str], words: tuple[str, ...]) -> None:
    """A captive portal's page is recognised, nothing of it is taken for an answer, and the login stands."""
    cli.login()
    url = clouds("--fault", "content-type:times=0")
    before = stored_for(cli, url, cloud)
    ran = cli("--api-url", url, *words)
    ran.ended(8 if words[0] in {"checkout", "provision"} else 1)
    assert "HTML page" in ran.err
    assert url in ran.err
    assert "--api-url" in ran.err
    assert "<html" not in ran.err
    assert (cli.directory / "credentials.json").read_bytes() == before
