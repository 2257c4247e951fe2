"""`up`, `checkout`, `provision`: what costs money, as it is typed."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.sandbox.provisioning import MESSAGES

from tests.support.command import CommandLine

from .conftest import Clouds, decide_elsewhere

PLAN = ("--plan", "plan_sandbox_starter", "--region", "fra")
UP = ("up", *PLAN, "--login-port", "0", "--checkout-port", "0", "--no-browser")
CHECKOUT = ("checkout", *PLAN, "--port", "0", "--no-browser")


def test_text(cli: CommandLine, clouds: Clouds) -> None:
    """A person sees each flow's states, the steps ticked off with their source, and where everything is.

    The tenant takes its time: steps that its status makes needless to wait for are not told.
    """
    ran = cli.play(*UP, "--api-url", clouds("--step", "0.4")).ended(0)
    assert ran.out == ""
    assert "Open this to log in:" in ran.err
    assert "Open this to pay:" in ran.err
    assert "✓ Database created\n" in ran.err
    assert "is running at https://" in ran.err
    assert f"Tenants: {cli.directory}/tenants.json" in ran.err
    assert f"Credentials: {cli.directory}/credentials.json" in ran.err
    assert "\x1b" not in ran.err


def test_json(cli: CommandLine) -> None:
    """A program gets every flow's changes; at the end the tenant is stored, and no secret was said."""
    ran = cli.play("--json", *UP).ended(0)
    last = ran.lines[-1]
    assert {line["machine"] for line in ran.lines} == {"onboarding", "login", "checkout", "provisioning"}
    assert (last["state"], last["verdict"]) == ("ready", "success")
    (tenant,) = json.loads((cli.directory / "tenants.json").read_text())["tenants"]
    assert tenant["id"] == last["result"]["tenant_id"]
    assert tenant["region"] == "fra"
    for secret in (tenant["internal_database_url"], tenant["sync_token"]):
        assert secret not in ran.out + ran.err


def test_stream_that_stays_away(cli: CommandLine, clouds: Clouds) -> None:
    """When the stream drops and stays away, polling goes on; nothing is said twice."""
    url = clouds("--step", "0.4", "--fault", "drop-stream:after=1,outage=30,path=/tenants/")
    ran = cli.play(*UP, "--api-url", url).ended(0)
    assert ran.err.count("! Stream lost, polling") <= 2  # it broke, and it is refused when it is opened again
    assert len(assert_told_forward(ran.err)) > 1


def test_stream_that_comes_and_goes(cli: CommandLine, clouds: Clouds) -> None:
    """Each connection breaks after three events, and each is back at once: nobody is told, and every step is."""
    url = clouds("--step", "0.7", "--fault", "drop-stream:after=3,times=0,path=/tenants/")
    ran = cli.play(*UP, "--api-url", url).ended(0)
    assert "Stream lost" not in ran.err
    assert assert_told_forward(ran.err) == list(MESSAGES.values())


def test_stream_that_repeats_itself(cli: CommandLine, clouds: Clouds) -> None:
    """Everything told again on every connection, events doubled and out of order: a program reads each step once."""
    faults = ("drop-stream:after=4,times=3", "duplicate:times=0", "replay-all:times=0", "reorder:after=2")
    path = ",path=/tenants/"
    url = clouds("--step", "0.2", *(word for fault in faults for word in ("--fault", fault + path)))
    ran = cli.play("--json", *UP, "--api-url", url).ended(0)
    said = [line["message"] for line in ran.lines if line.get("message") in set(MESSAGES.values())]
    assert assert_told_forward("\n".join(f"\N{CHECK MARK} {message}" for message in said)) == said
    lost = [line for line in ran.lines if line.get("event") == "StreamLost"]
    assert lost  # a program reads that, too


def assert_told_forward(shown: str) -> list[str]:
    """Every step at most once and in the server's order; returns what was told of them."""
    told = [(shown.index(f"\N{CHECK MARK} {message}"), message) for message in MESSAGES.values() if message in shown]
    messages = [message for _, message in sorted(told)]
    assert messages == [message for message in MESSAGES.values() if message in messages]
    for message in messages:
        assert shown.count(f"\N{CHECK MARK} {message}") == 1
    return messages


def test_declined(cli: CommandLine) -> None:
    """What the browser says is no end: 8, with what to do, and the same command comes back to the same order."""
    cli.login()
    ran = cli.play(*UP, browser=ScriptedBrowser(payment="decline")).ended(8)
    flow = next(line["flow"] for line in cli("flows", "list", "--json").ended(0).lines if line["status"] == "paused")
    paused = next(line for line in ran.err.splitlines() if line.startswith("Paused: "))
    assert re.search(r"not known whether the order \S+ \(Sandbox Starter, fra\) is paid", paused)
    assert "the browser reported payment_declined, and the API knows of no payment" in paused
    assert f"run `systemprompt-cloud flows resume {flow}` in a terminal. It asks: " in ran.err
    assert "Create a new order?" in ran.err
    assert f"To end the flow instead: systemprompt-cloud flows cancel {flow}" in ran.err
    assert "Error" not in ran.err
    assert not (cli.directory / "tenants.json").exists()
    again = cli.begin(*UP)
    assert again.wait_invited() in ran.err
    again.interrupt()
    again.wait().ended(130)
    last = cli.play(*CHECKOUT, "--json", browser=ScriptedBrowser(payment="decline")).ended(8).lines[-1]
    assert last["error"] == "OrderInDoubt"


def test_up_again(cli: CommandLine, cloud: str) -> None:
    """The same command continues with the tenant that was bought, whatever is stored here, and says so."""
    first = cli.play(*UP).ended(0)
    assert "which is paid for" not in first.err
    (cli.directory / "tenants.json").unlink()
    bought = httpx.get(f"{cloud}/sandbox/ledger").json()["checkouts"]
    again = cli(*UP).ended(0)
    assert "which is paid for" in again.err
    assert "To buy another one: systemprompt-cloud checkout --plan" in again.err
    assert httpx.get(f"{cloud}/sandbox/ledger").json()["checkouts"] == bought


def test_refused_token(cli: CommandLine, clouds: Clouds) -> None:
    """A token the API does not take ends it as it ends `login`: with 4, and with what to do, for a watcher too."""
    url = clouds("--fault", "error:status=401,path=/auth/me,times=0")
    last = cli.play(*UP, "--api-url", url, "--json").ended(4).lines[-1]
    assert (last["state"], last["hint"]) == ("failed", f"Log in: systemprompt-cloud --api-url {url} login")
    cli("flows", "watch", last["flow"]).ended(4)


def test_interrupted_while_paying(cli: CommandLine, cloud: str) -> None:
    """Interrupted at the payment and gone on with: one checkout, one tenant."""
    cli.login()
    before = httpx.get(f"{cloud}/sandbox/ledger").json()["checkouts"]
    first = cli.begin(*UP)
    first.wait_invited()
    first.interrupt()
    ran = first.wait().ended(130)
    assert "onboarding" in ran.err
    assert "flows resume" in ran.err
    again = cli.play(*UP).ended(0)
    assert "resuming onboarding" in again.err
    assert "Use the tab that is already open to pay, or open:" not in again.err  # no browser was opened before
    assert httpx.get(f"{cloud}/sandbox/ledger").json()["checkouts"] == before + 1


@pytest.mark.parametrize("words", [CHECKOUT, UP], ids=["checkout", "up"])
def test_unbound_payment(cli: CommandLine, words: tuple[str, ...]) -> None:
    """The payment page is given an address without a query when that is asked for, with a warning; it is taken."""
    cli.login()
    running = cli.begin(*words, "--unbound-callback")
    back = decide_elsewhere(running.wait_invited(), "pay")
    assert back.startswith("http://127.0.0.1:")
    assert "state=" not in back
    assert httpx.get(back, trust_env=False).status_code == 200
    ran = running.wait().ended(0)
    assert "any program on this computer could answer" in ran.err[: ran.err.index("Open this to pay:")]


def test_options_that_come_too_late(cli: CommandLine) -> None:
    """A flow that is gone on with keeps what it was started with, and the options that change nothing are named."""
    first = cli.begin(*UP)
    first.wait_invited()
    first.interrupt()
    assert "do not apply" not in first.wait().ended(130).err
    ran = cli.play(*UP, "--external-db", "--payment-timeout=5").ended(0)
    assert "these do not apply: --payment-timeout, --external-db.\n" in ran.err
    assert "flows cancel" in ran.err
    (tenant,) = json.loads((cli.directory / "tenants.json").read_text())["tenants"]
    assert tenant["external_db_access"] is False


def test_checkout_then_provision(cli: CommandLine) -> None:
    """The two steps apart: the first names the command for the second."""
    cli.login()
    paid = cli.play(*CHECKOUT).ended(0)
    command = next(line for line in paid.err.splitlines() if line.startswith("Wait for it:")).split()[4:]
    ran = cli(*command, "--external-db").ended(0)
    assert command[0] == "provision"
    assert "is running at" in ran.err
    (tenant,) = json.loads((cli.directory / "tenants.json").read_text())["tenants"]
    assert tenant["external_db_access"] is True
    last = cli(*command, "--json").ended(0).lines[-1]
    assert last["result"]["tenant_id"] == tenant["id"]


def test_checkout_and_provision_need_a_login(cli: CommandLine) -> None:
    """Without one they end with 4 before a flow is started."""
    for words in (CHECKOUT, ("provision", "tnt_1")):
        assert "systemprompt-cloud login" in cli(*words).ended(4).err
        assert cli(*words, "--json").ended(4).lines[-1]["error"] == "NotAuthenticated"
    assert not cli.journal.exists()


def test_unknown_plan_and_tenant(cli: CommandLine) -> None:
    """What is not there ends with 1, and the plans there are get listed."""
    cli.login()
    ran = cli("checkout", "--plan", "gold", "--no-browser").ended(1)
    assert "plans: plan_sandbox_starter" in ran.err
    assert "List them: systemprompt-cloud plans\n" in ran.err
    last = cli("provision", "tnt_none", "--json").ended(1).lines[-1]
    assert last["state"] == "failed"
    assert "tenant_not_found" in last["problem"]


def test_cancelling_does_not_undo_a_payment(cli: CommandLine) -> None:
    """Whoever gives up an order whose page was shown reads that, and where to look; before the page nothing."""
    early = cli.begin(*UP)
    early.wait_invited("/consent/")
    early.interrupt()
    early.wait().ended(130)
    (flow,) = cli("flows", "list", "--json").lines
    assert "payment" not in cli("flows", "cancel", flow["flow"]).ended(0).err
    cli.login()
    begun = cli.begin(*UP)
    begun.wait_invited("/pay/")
    begun.interrupt()
    begun.wait().ended(130)
    (flow,) = cli("flows", "list", "--status", "interrupted", "--json").lines
    said = cli("flows", "cancel", flow["flow"]).ended(0).err
    assert "(Sandbox Starter, fra) may have been paid: its payment page was shown." in said
    assert "Cancelling does not undo a payment." in said
    assert f"See the order: systemprompt-cloud flows show {flow['flow'][:12]}" in said
    assert "systemprompt-cloud tenants sync" in said


def test_cancelling_a_flow_that_has_its_tenant(cli: CommandLine, clouds: Clouds) -> None:
    """The tenant is named, with the commands about it; the command that ran the flow says so, too, and no error."""
    running = cli.begin(*UP, "--api-url", clouds("--step", "60"), browser=ScriptedBrowser())
    running.wait_for("waiting for the tenant (up to 10 min)")
    running.wait_until(lambda: "provisioning" in running.err, "wait for the tenant")
    (flow,) = cli("flows", "list", "--json").lines
    cli("flows", "cancel", flow["flow"])
    ended = running.wait().ended(1)
    assert "Onboarding cancelled: cancelled" in ended.err
    assert "Error" not in ended.err
    assert "does not undo" in ended.err


def test_a_wait_says_how_long_it_may_take(cli: CommandLine) -> None:
    """A browser that reports a payment which the API does not know: the wait that follows is bounded, and says so."""
    cli.login()
    begun = cli.begin(*CHECKOUT)
    way_back = urlsplit(decide_elsewhere(begun.wait_invited(), "decline"))
    lie = {"state": parse_qs(way_back.query)["state"][0], "status": "completed"}
    lie |= {"transaction_id": "t", "tenant_id": "bogus"}
    httpx.get(way_back._replace(query="").geturl(), params=lie, trust_env=False)
    begun.wait_for("payment reported: confirming the tenant with the API (up to 2 min)")
    begun.interrupt()
    begun.wait().ended(130)
