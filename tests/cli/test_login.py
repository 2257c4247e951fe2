"""`login`, `whoami`, `logout`, `plans`, as they are typed."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import CommandLine

from .conftest import Clouds, decide_elsewhere

LOGIN = ("login", "--port", "0", "--no-browser")
UNBOUND = "any program on this computer could answer"


def test_text(cli: CommandLine) -> None:
    """A person reads the address, what happens, who they are and where that was saved; stdout stays empty."""
    ran = cli.play(*LOGIN).ended(0)
    credentials = cli.directory / "credentials.json"
    assert ran.out == ""
    assert "Open this to log in:" in ran.err
    assert "✓ logged in" in ran.err
    assert "Logged in as ada@sandbox.example at http://127.0.0.1:" in ran.err
    assert f"Credentials: {credentials}" in ran.err
    assert f"Directory: {cli.directory} (yours" in ran.err
    assert "\x1b" not in ran.err
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600


def test_json(cli: CommandLine) -> None:
    """A program reads one object a line, each change and then the end; no token and no nonce among them."""
    ran = cli.play(*LOGIN, "--json").ended(0)
    *changes, last = ran.lines
    assert [change["seq"] for change in changes] == list(range(1, len(changes) + 1))
    assert all({"flow", "seq", "at", "machine", "event", "from", "to"} <= change.keys() for change in changes)
    assert [change["event"] for change in changes][:3] == ["started", "AuthorizationOffered", "BrowserNotOpened"]
    assert (last["machine"], last["state"], last["verdict"]) == ("login", "authenticated", "success")
    assert last["result"]["user_email"] == "ada@sandbox.example"
    token = json.loads((cli.directory / "credentials.json").read_text())["api_token"]
    assert token not in ran.out + ran.err


def test_denied(cli: CommandLine) -> None:
    """A refusal in the browser ends with 5 and stores nothing."""
    ran = cli.play(*LOGIN, browser=ScriptedBrowser(consent="deny")).ended(5)
    assert "Login denied: " in ran.err
    assert "Error" not in ran.err
    assert "flows history" in ran.err
    assert not (cli.directory / "credentials.json").exists()
    last = cli.play(*LOGIN, "--json", browser=ScriptedBrowser(consent="deny")).ended(5).lines[-1]
    assert (last["state"], last["verdict"]) == ("denied", "failure")


def test_interrupted_and_gone_on(cli: CommandLine) -> None:
    """Ctrl-C ends with 130 and the command that goes on; the tab that is still open is accepted by it."""
    first = cli.begin(*LOGIN)
    url = first.wait_invited()
    first.interrupt()
    ran = first.wait().ended(130)
    command = ran.err.strip().splitlines()[-1].split()
    assert command[:3] == ["systemprompt-cloud", "flows", "resume"]
    again = cli.play(*command[1:], "--no-browser").ended(0)
    assert "resuming login" in again.err
    assert url in again.err


def test_interrupted_json(cli: CommandLine) -> None:
    """A program interrupted with SIGTERM is told how to go on; `login` again goes on too instead of starting over."""
    first = cli.begin("--dir", "kept here", *LOGIN, "--json")
    first.wait_invited()
    first.interrupt(signal.SIGTERM)
    last = first.wait().ended(143).lines[-1]
    assert (last["state"], last["verdict"]) == ("awaiting_callback", "pending")
    assert last["resume"] == f"systemprompt-cloud --dir '{cli.home}/kept here' flows resume {last['flow']}"
    ran = cli.play("--dir", "kept here", *LOGIN, "--json").ended(0)
    assert {line["flow"] for line in ran.lines} == {last["flow"]}


def test_impatient_interrupts_are_no_traceback(cli: CommandLine) -> None:
    """Ctrl-C again and again ends the same way."""
    first = cli.begin(*LOGIN)
    first.wait_invited()
    for _ in range(2):
        first.interrupt()
    first.wait().ended(130)


def test_token_from_stdin(cli: CommandLine) -> None:
    """A token is taken from stdin, tried, and stored; one that is refused changes nothing."""
    cli.login()
    credentials = cli.directory / "credentials.json"
    token = json.loads(credentials.read_text())["api_token"]
    cli("logout").ended(0)
    ran = cli("login", "--token-stdin", given=token + "\n").ended(0)
    assert "Logged in as ada@sandbox.example" in ran.err
    before = credentials.read_bytes()
    refused = cli("login", "--token-stdin", given=token[:-4] + "AAAA").ended(4)
    assert "Error: login failed" in refused.err
    assert "Log in: systemprompt-cloud login\n" in refused.err
    last = cli("login", "--token-stdin", "--json", given="no~token~of~ours").ended(4).lines[-1]
    assert (last["state"], last["hint"]) == ("failed", "Log in: systemprompt-cloud login")
    cli("flows", "watch", last["flow"]).ended(4)
    assert credentials.read_bytes() == before
    assert token not in refused.err


def test_pasted_address(cli: CommandLine) -> None:
    """With the browser elsewhere the address it ended on is pasted; one of another login is refused and asked again."""
    running = cli.begin("login", "--port", "0", "--paste", listening=True)
    where = decide_elsewhere(running.wait_invited(), "approve")
    running.say("".join(f"{address}\n" for address in ("nonsense", where.replace("state=", "state=x"), where)))
    ran = running.wait().ended(0)
    assert "not an address that begins with http://127.0.0.1:" in ran.err
    assert "of another login" in ran.err
    assert "Logged in as ada@sandbox.example" in ran.err
    assert where not in ran.err


def test_nothing_to_paste(cli: CommandLine) -> None:
    """The end of stdin ends the reading only, and that is said: a browser here is still waited for. Nobody asks on."""
    ran = cli.play("login", "--port", "0", "--paste").ended(0)
    assert [
        ran.err.count(words) for words in ("paste the address", "Still waiting for a browser on this computer")
    ] == [1, 1]
    ran = cli(*LOGIN, "--paste", "--no-input").ended(2)
    assert "--no-input allows no questions" in ran.err


def test_unbound_callback_waits_for_a_person(cli: CommandLine) -> None:
    """Where nobody can be asked, an unbound login stops with 8 before anything is saved."""
    ran = cli.play(*LOGIN, "--unbound-callback").ended(8)
    assert UNBOUND in ran.err[: ran.err.index("Open this to log in:")]
    assert "ada@sandbox.example" in ran.err
    assert "flows resume" in ran.err
    assert not (cli.directory / "credentials.json").exists()
    assert UNBOUND in cli("flows", "resume", "--no-browser").ended(8).err


def test_bound_callback_is_no_reason_to_warn(cli: CommandLine) -> None:
    """The warning is for those who asked for less."""
    assert UNBOUND not in cli.play(*LOGIN).ended(0).err


def test_api_down(cli: CommandLine) -> None:
    """An API that is not there leaves the login to be gone on with: exit 8, the address and the commands."""
    ran = cli(*LOGIN, "--api-url", "http://127.0.0.1:9").ended(8)
    assert "http://127.0.0.1:9/" in ran.err
    assert "--api-url http://127.0.0.1:9 flows resume" in ran.err
    last = cli(*LOGIN, "--api-url", "http://127.0.0.1:9", "--json").ended(8).lines[-1]
    assert (last["verdict"], last["error"], last["exit_code"]) == ("pending", "Network", 8)


def test_unsafe_api(cli: CommandLine) -> None:
    """An address no token may go to is a mistake in the usage of every command; nothing is started."""
    for words in (LOGIN, ["whoami"], ["flows", "list"]):
        ran = cli(*words, "--api-url", "http://cloud.example").ended(2)
        assert "--api-url must be https, or http on this machine" in " ".join(ran.err.split())
    assert "must not hold a user" in cli("whoami", "--api-url", "https://ada@cloud.example").ended(2).err
    assert (
        "SYSTEMPROMPT_API_URL must be https" in cli("plans", SYSTEMPROMPT_API_URL="http://cloud.example").ended(2).err
    )
    assert not cli.journal.exists()


def test_project_does_not_choose_where_to_log_in(cli: CommandLine, tmp_path: Path) -> None:
    """Credentials a clone brought along start no login at their API, neither by `login` and `up` nor by `resume`."""
    directory = tmp_path / "clone" / ".systemprompt"
    directory.mkdir(parents=True, mode=0o700)
    stored = {
        "api_token": "t",
        "api_url": "https://evil.example",
        "authenticated_at": "2026-01-01T00:00:00Z",
        "user_email": "a@b.example",
    }
    (directory / "credentials.json").write_text(json.dumps(stored))
    (directory / "credentials.json").chmod(0o600)
    for words in (LOGIN, ("up", "--plan", "x")):
        ran = cli(*words, "--json", cwd=directory.parent, SYSTEMPROMPT_API_URL="").ended(2)
        assert ran.lines[-1]["error"] == "UntrustedApi"
    cli(*LOGIN, cwd=directory.parent, SYSTEMPROMPT_API_URL="http://127.0.0.1:9").ended(8)
    (file,) = cli.journal.parent.glob("projects/*/journal.sqlite3")
    with sqlite3.connect(file) as journal:
        journal.execute("UPDATE flows SET context = replace(context, 'http://127.0.0.1:9', 'https://evil.example')")
    journal.close()
    ran = cli("flows", "resume", "--json", cwd=directory.parent).ended(2)
    assert ran.lines[-1]["error"] == "UntrustedApi"


def test_whoami(cli: CommandLine) -> None:
    """Who, where, until when, what is unfinished; 4 when nobody is logged in or the token has expired."""
    assert "Log in: systemprompt-cloud login" in cli("whoami").ended(4).err
    assert cli("whoami", "--json").ended(4).lines == [
        {
            "error": "NotAuthenticated",
            "message": f"not logged in: there is no {cli.directory}/credentials.json",
            "hint": "Log in: systemprompt-cloud login",
            "exit_code": 4,
        }
    ]
    cli.login()
    cli(*LOGIN, "--api-url", "http://127.0.0.1:9").ended(8)
    ran = cli("whoami").ended(0)
    assert "ada@sandbox.example at http://127.0.0.1:" in ran.out
    assert "(in 23 hours)" in ran.out
    assert ran.err.count("Unfinished: login") == 1
    (shown,) = cli("whoami", "--check", "--json").ended(0).lines
    assert shown["checked"] is True
    assert [flow["machine"] for flow in shown["pending"]] == ["login"]
    ran = cli("whoami", "--check", "--api-url", "http://127.0.0.1:9").ended(4)
    assert "not for http://127.0.0.1:9" in ran.err
    assert "accepted" not in ran.out


def test_whoami_with_what_cannot_be_read(cli: CommandLine) -> None:
    """Credentials that are no credentials are named, not taken for none."""
    cli.login()
    file = cli.directory / "credentials.json"
    file.write_text('{"api_token": ""}')
    ran = cli("whoami", "--json").ended(4)
    assert ran.lines[-1]["error"] == "CredentialsCorrupted"
    assert str(file) in ran.lines[-1]["message"]


def test_place_that_a_login_cannot_be_stored_in(cli: CommandLine) -> None:
    """A link where the credentials go is refused before a browser is needed; the hint's command mends it."""
    cli.directory.mkdir(parents=True, mode=0o700)
    file = cli.directory / "credentials.json"
    file.symlink_to(cli.home / "elsewhere")
    for words in (LOGIN, ("up", "--plan", "x")):
        ran = cli(*words).ended(1)
        assert "symbolic link" in ran.err
        assert "Open this" not in ran.err
        assert f"Remove it: rm {file}\n" in ran.err
    assert not cli.journal.exists()


def test_unreadable_credentials_are_set_aside_by_a_login(cli: CommandLine) -> None:
    """A directory in their place, or an empty file: said, and mended by what the hint says; `logout` removes them."""
    file = cli.directory / "credentials.json"
    file.mkdir(parents=True, mode=0o700)
    assert "`systemprompt-cloud login` sets it aside" in cli("whoami").ended(1).err
    cli.login()
    file.write_text("")
    assert "does not hold credentials: it is empty" in cli("whoami").ended(4).err
    cli.login()
    directory, empty = sorted(cli.directory.glob("credentials.json.unreadable-*"), key=lambda each: each.is_file())
    ran = cli("logout").ended(0)
    assert f"Removed {empty}" in ran.err
    assert f"Not removed: {directory}" in ran.err
    assert not empty.exists()


def test_logout(cli: CommandLine) -> None:
    """Credentials and tenants go, what went is said, the API is told; with nothing there it is no error."""
    cli.login()
    file = cli.directory / "credentials.json"
    ran = cli("logout").ended(0)
    assert f"Removed {file}" in ran.err
    assert "Logged out ada@sandbox.example." in ran.err
    assert "could not be told" not in ran.err
    assert not file.exists()
    assert "Not logged in" in cli("logout").ended(0).err
    cli.login()
    assert cli("logout", "--json").ended(0).lines == [{"removed": [str(file)], "sessions": [], "reported": True}]
    file.write_text("not json")
    assert cli("logout", "--json").ended(0).lines == [{"removed": [str(file)], "sessions": [], "reported": False}]


def test_plans(cli: CommandLine) -> None:
    """A table for people, an object a line for programs, 4 without a login, colour nowhere."""
    assert "systemprompt-cloud login" in cli("plans").ended(4).err
    cli.login()
    assert cli("plans").ended(0).out.splitlines()[1].split()[:1] == ["plan_sandbox_starter"]
    assert "plan_sandbox_starter" in [plan["id"] for plan in cli("--json", "plans").ended(0).lines]
    ran = cli("plans", "--json", "--api-url", "http://localhost:9").ended(4)
    assert "Log in there" in ran.lines[-1]["hint"]


def test_log_file_holds_no_secret(cli: CommandLine, tmp_path: Path) -> None:
    """`-vv` and `--log-file` say a lot, and never the token."""
    log = tmp_path / "log"
    ran = cli.play(*LOGIN, "-vv", "--log-file", str(log)).ended(0)
    token = json.loads((cli.directory / "credentials.json").read_text())["api_token"]
    said = log.read_text() + ran.err
    assert token not in said
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    refused = cli("whoami", "--log-file", str(tmp_path / "no" / "log")).ended(1)
    assert "--log-file" in refused.err


def test_directory_that_cannot_be_made(cli: CommandLine) -> None:
    """A directory that cannot be is named, and nothing is started."""
    (cli.home / "file").write_text("")
    ran = cli(*LOGIN, "--json", "--dir", "file/below").ended(1)
    assert ran.lines[-1]["error"] in {"Io", "JournalError"}
    assert str(cli.home / "file") in ran.lines[-1]["message"]


def test_port_taken(cli: CommandLine) -> None:
    """A port somebody else has is named, with the option that mends it; no address was shown."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = cli("login", "--no-browser", "--port", str(port)).ended(1)
        up = cli("up", "--plan", "x", "--login-port", str(port), "--no-browser").ended(1)
        (*_, last) = cli("login", "--no-browser", f"--port={port}", "--json").ended(1).lines
    assert f"port {port} on 127.0.0.1 is taken, by another program or a flow of yours" in ran.err
    assert "another port" in ran.err
    assert "Open this" not in ran.err
    assert "Take any free port: systemprompt-cloud login --no-browser --port 0\n" in ran.err
    assert "systemprompt-cloud up --plan x --no-browser --login-port 0\n" in up.err
    assert last["hint"].endswith("systemprompt-cloud --json login --no-browser --port 0")


def test_api_that_speaks_html(cli: CommandLine, clouds: Clouds) -> None:
    """A captive portal's page is recognised, and the login can go on later."""
    url = clouds("--fault", "content-type:path=/oauth/")
    ran = cli(*LOGIN, "--api-url", url).ended(8)
    assert "HTML page" in ran.err
    assert f"{url}/api/v1/auth/oauth/github" in ran.err
    cli.play("flows", "resume", "--no-browser").ended(0)


def test_proxy_that_refuses(cli: CommandLine) -> None:
    """A page that is not the API's own refusal says nothing about the redirect URI, and is not taken for one."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(400)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>Bad Request</html>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name it has there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever).start()
        ran = cli(*LOGIN, "--api-url", f"http://127.0.0.1:{server.server_address[1]}").ended(8)
        server.shutdown()
    assert "HTML page" in ran.err
    assert "HTTPS_PROXY" in ran.err
    assert " flows resume " in ran.err
    assert "--unbound-callback" not in ran.err


def test_token_that_is_refused_midway(cli: CommandLine, clouds: Clouds) -> None:
    """A 401 in the middle parks the flow with 4: log in, then go on."""
    url = clouds("--fault", "unauthorized:after=0,path=/plans")
    ran = cli.play("up", "--plan", "Sandbox Starter", "--login-port", "0", "--checkout-port", "0", "--api-url", url)
    ran.ended(4)
    assert f"systemprompt-cloud --api-url {url} login" in ran.err
    command = ran.err.strip().splitlines()[-1].split()[1:]
    cli.play(*command, "--no-browser").ended(0)
    assert (cli.directory / "tenants.json").exists()
