"""The hints about a flow that did not end well."""

from __future__ import annotations

from urllib.parse import urlsplit

from systemprompt_cloud.cli.screen.remedies import hint_of
from systemprompt_cloud.errors import ApiError

from tests.support.command import CommandLine

from .conftest import decide_elsewhere


def test_a_tenant_that_is_not_there(cli: CommandLine) -> None:
    """Whoever waits for it in vain is told how to see which there are."""
    cli.login()
    ran = cli("provision", "tnt_none").ended(1)
    assert ran.err.splitlines()[-1].startswith("See what is stored here: systemprompt-cloud tenants list")


def test_a_plan_that_is_called_like_a_refusal(cli: CommandLine) -> None:
    """What somebody typed says nothing about tenants: told are the plans."""
    cli.login()
    ran = cli("checkout", "--plan", "x: tenant_not_found: y", "--no-browser").ended(1)
    assert "List them: systemprompt-cloud plans" in ran.err
    assert "tenants list" not in ran.err


def test_nobody_came_back_from_the_login(cli: CommandLine) -> None:
    """The next command starts a new login, whose page can be answered, whatever became of the old one."""
    ran = cli("login", "--port", "0", "--no-browser", "--timeout", "1").ended(1)
    hint = "Start it again, and you get a new page: systemprompt-cloud login --port 0 --no-browser --timeout 1"
    assert hint in ran.err.splitlines()
    up = cli("up", "--plan", "x", "--login-port", "0", "--no-browser", "--login-timeout", "1").ended(1)
    assert "Start it again, and you get a new page: systemprompt-cloud up --plan x" in up.err


def test_a_port_that_a_flow_must_come_back_to(cli: CommandLine) -> None:
    """Two logins of one's own on one port: the one that has an address for it cannot take another, and says so."""
    first = cli.begin("login", "--port", "0", "--no-browser", "--json")
    port = urlsplit(decide_elsewhere(first.wait_invited(), "approve")).port
    first.interrupt()
    first.wait().ended(130)
    second = cli.begin("login", "--port", str(port), "--provider", "google", "--no-browser")
    second.wait_invited()
    ran = cli("login", "--port", "0", "--no-browser").ended(8)
    assert f"port {port} on 127.0.0.1 is taken, by another program or a flow of yours" in ran.err
    assert "stop the program, or your other flow, that uses it" in ran.err
    last = cli("login", "--port", "0", "--no-browser", "--json").ended(8).lines[-1]
    assert last["error"] == "PortBusy"
    flow = last["flow"]
    again = "systemprompt-cloud login --no-browser --port 0"
    assert f"Or take another port: systemprompt-cloud flows cancel {flow}; then: {again}" in ran.err
    cli("flows", "cancel", flow).ended(0)
    cli.login()


def test_no_such_call_is_another_matter_than_no_good_answer() -> None:
    """Both may be a wrong address; only where the API is at fault may a later moment be better."""
    missing = hint_of(None, ApiError("no", status=404, code="not_found"))
    broken = hint_of(None, ApiError("no", status=502))
    assert ("--api-url" in missing, "--api-url" in broken) == (True, True)
    assert ("later" in missing, "later" in broken) == (False, True)
