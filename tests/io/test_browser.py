"""Opening a browser: what is never opened, how one is chosen, and that no opener can hold us up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.errors import UnsafeUrl
from systemprompt_cloud.io.loopback.browser import browser_command, check_openable, open_browser

URL = "https://auth.example/login?redirect_uri=http%3A%2F%2F127.0.0.1%3A8765%2Fcallback%3Fstate%3DNONCEVALUE&b=1"


# --- what may be opened (SECURITY 12) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://auth.example",
        "HTTPS://AUTH.example:8443/x#y",
        "http://127.0.0.1:8000/consent?x=1",
        "http://localhost:8000/",
        "http://[::1]:8000/",
    ],
)
def test_web_addresses_are_openable(url: str) -> None:
    """Https with a host, and http on this computer."""
    check_openable(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-version",
        "--help",
        "-https://auth.example/",
        "http://auth.example/",
        "http://127.0.0.1.evil.example/",
        "http://localhost.evil.example/",
        "http://127.0.0.2/",
        "http://0.0.0.0:8000/",
        "https://",
        "https:///path",
        "https:auth.example",
        "https:/auth.example",
        "//auth.example/",
        "auth.example",
        "/etc/passwd",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "ms-settings:x",
        "ssh://auth.example/",
        "ftp://auth.example/",
        "https://github.com@evil.example/",
        "https://user:password@evil.example/",
        "http://127.0.0.1@evil.example/",
        "https://auth.example:port/",
        "https://auth.example:99999/",
        "https://[::1/",
        " https://auth.example/",
        "https://auth.example/ x",
        "https://auth.example/\n",
        "https://auth.example/\x00",
        "https://auth.example/\x1b[2J",
        "https://auth.example\\@evil.example/",
        'https://auth.example/"&calc',
        "https://auth.example/`id`",
        "https://\u0430uth.example/",
        "https://auth.example/|calc",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    """Other schemes start programs, a dash is an option, other characters are for shells and eyes."""
    with pytest.raises(UnsafeUrl):
        check_openable(url)


@given(st.text() | st.text(st.sampled_from("htps:/.-@[]#?&=%x 1\\"), max_size=20))
def test_no_text_breaks_the_check(url: str) -> None:
    """Any text is either a web address or UnsafeUrl, and what passes has one of the two schemes."""
    try:
        check_openable(url)
    except UnsafeUrl:
        return
    assert url.lower().startswith(("https://", "http://"))
    assert url.isascii()


@pytest.mark.parametrize(
    "url", ["http://evil.example/?state=NONCEVALUE", "https://a@b/?state=NONCEVALUE", "x:NONCEVALUE"]
)
def test_a_refusal_does_not_quote_the_query(url: str) -> None:
    """The address may hold the nonce, so the message names scheme and host only (SECURITY 8)."""
    with pytest.raises(UnsafeUrl) as caught:
        check_openable(url)
    assert "NONCEVALUE" not in str(caught.value)


# --- how a browser is chosen ----------------------------------------------------------------------------------


def has(*names: str) -> Callable[[str], str | None]:
    return lambda name: f"/bin/{name}" if name in names else None


DESKTOP = {"DISPLAY": ":0"}
SSH = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}
WSL = {"WSL_DISTRO_NAME": "Debian"}


@pytest.mark.parametrize(
    ("environ", "platform", "installed", "argv"),
    [
        (DESKTOP, "linux", ["xdg-open"], ["xdg-open", "U"]),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", ["xdg-open"], ["xdg-open", "U"]),
        ({**SSH, **DESKTOP}, "linux", ["xdg-open"], ["xdg-open", "U"]),
        ({}, "darwin", ["open"], ["open", "U"]),
        ({}, "win32", ["rundll32.exe"], ["rundll32.exe", "url.dll,FileProtocolHandler", "U"]),
        (WSL, "linux", ["wslview", "rundll32.exe"], ["wslview", "U"]),
        (WSL, "linux", ["rundll32.exe"], ["rundll32.exe", "url.dll,FileProtocolHandler", "U"]),
        ({**WSL, **DESKTOP}, "linux", ["xdg-open"], ["xdg-open", "U"]),
        ({"BROWSER": "firefox"}, "linux", ["firefox"], ["firefox", "U"]),
        ({**SSH, "BROWSER": "/x/helper.sh"}, "linux", ["/x/helper.sh"], ["/x/helper.sh", "U"]),
        ({"BROWSER": "gone:firefox --new-tab %s:other"}, "linux", ["firefox"], ["firefox", "--new-tab", "U"]),
        ({"BROWSER": "'my browser' -u=%s -x"}, "darwin", ["my browser"], ["my browser", "-u=U", "-x"]),
        ({**DESKTOP, "BROWSER": ""}, "linux", ["xdg-open"], ["xdg-open", "U"]),
    ],
)
def test_the_right_opener_is_chosen(
    environ: dict[str, str], platform: str, installed: list[str], argv: list[str]
) -> None:
    """BROWSER first, then what the system has; never a shell."""
    assert browser_command(environ, platform, has(*installed)).with_url("U") == argv


@pytest.mark.parametrize(
    ("environ", "platform", "installed", "reason"),
    [
        ({}, "linux", ["xdg-open"], "no display"),
        (DESKTOP, "linux", [], "xdg-open is not installed"),
        (SSH, "linux", ["xdg-open"], "SSH session"),
        ({"SSH_TTY": "/dev/pts/1"}, "linux", ["xdg-open"], "SSH session"),
        ({**SSH, **DESKTOP}, "darwin", ["open"], "SSH session"),
        (WSL, "linux", [], "no display"),
        ({**DESKTOP, "BROWSER": "gone"}, "linux", ["xdg-open"], "names nothing that is installed: gone"),
        ({"BROWSER": "'oops"}, "linux", [], "quotation mark"),
    ],
)
def test_when_there_is_none_the_reason_is_said(
    environ: dict[str, str], platform: str, installed: list[str], reason: str
) -> None:
    """No display, SSH, nothing installed, a wrong BROWSER: no command, and why."""
    command = browser_command(environ, platform, has(*installed))
    assert command.argv is None
    assert command.with_url("U") == []
    assert reason in command.reason


# --- opening --------------------------------------------------------------------------------------------------


def opener(directory: Path, body: str) -> dict[str, str]:
    """Install a program that acts as the browser; return the environment that names it."""
    script = directory / "opener"
    script.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{body}\n")
    script.chmod(0o700)
    return {**os.environ, "BROWSER": f"'{script}'"}


async def test_the_opener_gets_the_url_as_one_argument_in_its_own_session(tmp_path: Path) -> None:
    """No shell in between, nothing on our terminal, and a Ctrl-C in it does not reach the browser."""
    seen = tmp_path / "seen"
    body = f"print('noise'); open({str(seen)!r}, 'w').write(repr((sys.argv[1:], os.getsid(0) == os.getpid())))"
    outcome = await open_browser(URL, environ=opener(tmp_path, body))
    assert outcome.opened
    assert outcome.reason == "opened with opener"
    assert seen.read_text() == repr(([URL], True))


async def test_nothing_in_a_url_reaches_a_shell_of_the_opener(tmp_path: Path) -> None:
    """Openers are often scripts; the characters that a script could trip over arrive percent-encoded."""
    seen = tmp_path / "seen"
    environ = opener(tmp_path, f"open({str(seen)!r}, 'w').write(sys.argv[1])")
    await open_browser("https://auth.example/?a=$(touch+x)&b='c';d", environ=environ)
    assert seen.read_text() == "https://auth.example/?a=%24%28touch+x%29&b=%27c%27;d"


async def test_the_opener_prints_nothing_on_our_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its output is discarded and its input empty."""
    body = "print('noise', flush=True); print('noise', file=sys.stderr); assert sys.stdin.read() == ''"
    assert (await open_browser(URL, environ=opener(tmp_path, body))).opened
    assert capfd.readouterr() == ("", "")


async def test_a_failing_opener_is_reported(tmp_path: Path) -> None:
    """The exit code is in the reason, so that the person knows to open the printed URL."""
    outcome = await open_browser(URL, environ=opener(tmp_path, "sys.exit(3)"))
    assert not outcome.opened
    assert outcome.reason == "opener ended with exit code 3"


async def test_an_opener_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    """A program without an interpreter is a reason, not a traceback."""
    environ = opener(tmp_path, "")
    (tmp_path / "opener").write_text("#!/nowhere/python\n")
    outcome = await open_browser(URL, environ=environ)
    assert not outcome.opened
    assert outcome.reason.startswith("opener could not be started: ")


async def test_without_a_browser_nothing_is_started() -> None:
    """Headless: the reason, at once."""
    outcome = await open_browser(URL, environ={}, platform="linux")
    assert not outcome.opened
    assert "no display" in outcome.reason


async def test_an_unsafe_url_starts_nothing(tmp_path: Path) -> None:
    """The check comes before any choosing (SECURITY 12)."""
    seen = tmp_path / "seen"
    with pytest.raises(UnsafeUrl):
        await open_browser("file:///etc/passwd", environ=opener(tmp_path, f"open({str(seen)!r}, 'w')"))
    assert not seen.exists()


async def test_an_opener_that_stays_does_not_block_and_leaves_no_zombie(tmp_path: Path) -> None:
    """A browser that runs in the foreground counts as opened after the bound, lives on, and is reaped when it ends."""
    note = tmp_path / "pid"
    os.mkfifo(note)
    environ = opener(tmp_path, f"open({str(note)!r}, 'w').write(str(os.getpid()))\nsignal.pause()")
    pids: list[int] = []

    async def read_pid() -> None:
        pids.append(int(await trio.to_thread.run_sync(note.read_text)))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_pid)
            outcome = await open_browser(URL, environ=environ, timeout=0.3)
        assert outcome.opened
        os.kill(pids[0], 0)  # still alive
        os.kill(pids[0], signal.SIGTERM)
        while _exists(pids[0]):
            await trio.lowlevel.checkpoint()


async def test_cancelling_the_opening_does_not_wait_for_the_opener(tmp_path: Path) -> None:
    """The flow goes on when the callback comes, whatever the opener does; it ends by itself."""
    note = tmp_path / "pid"
    os.mkfifo(note)
    environ = opener(tmp_path, f"open({str(note)!r}, 'w').write(str(os.getpid()))\nsignal.pause()")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: open_browser(URL, environ=environ, timeout=60))
            pid = int(await trio.to_thread.run_sync(note.read_text))
            nursery.cancel_scope.cancel()
        os.kill(pid, signal.SIGTERM)
        while _exists(pid):
            await trio.lowlevel.checkpoint()


def _exists(pid: int) -> bool:
    """True while the process is there, also as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
