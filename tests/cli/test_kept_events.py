"""Events that come early, from the command line: kept and said, refused and shown."""

from __future__ import annotations

from systemprompt_cloud.engine.journal.journal import Journal

from tests.support.command import CommandLine

from .test_flows_from_afar import begun, flow_of


def test_an_early_event_is_kept_and_said(cli: CommandLine) -> None:
    """Exit 8, whether or not a process drives the flow; the flow stays where it is."""
    running = cli.begin("login", "--port", "0", "--no-browser")
    running.wait_invited()
    flow = flow_of(cli)
    ran = cli("flows", "send", flow, "AccountConfirmed").ended(8)
    assert "keeps AccountConfirmed until a state takes it" in " ".join(ran.err.split())
    (sent,) = cli("flows", "send", flow, "AccountConfirmed", "--json").ended(8).lines
    assert (sent["taken"], sent["state"]) == (False, "awaiting_callback")
    (shown,) = cli("flows", "show", flow, "--json").ended(0).lines
    assert (shown["waiting"], shown["refused"]) == (["AccountConfirmed"] * 2, [])
    assert "AccountConfirmed, AccountConfirmed (not taken yet)" in cli("flows", "show", flow).ended(0).out
    with Journal(cli.journal, create=False) as journal:
        assert [signal.name for signal in journal.signals(flow)] == ["AccountConfirmed"] * 2
    running.interrupt()
    running.wait().ended(130)


def test_what_a_flow_refuses_is_in_its_history(cli: CommandLine) -> None:
    """`flows history` and `flows show` have the event and the reason; programs get it as a record of its own kind."""
    flow = begun(cli)
    body = '{"event":"PortTaken","problem":"taken"}'
    with Journal(cli.journal, create=False) as journal:
        journal.write([lambda: journal.post_signal(flow, "2026-01-01T00:00:00Z", "PortTaken", body)])
    running = cli.begin("flows", "resume", flow, "--no-browser")
    running.wait_invited()
    running.interrupt()
    running.wait().ended(130)
    (refused,) = [line for line in cli("flows", "history", flow, "--json").ended(0).lines if line["kind"] == "refused"]
    assert (refused["event"], refused["from"]) == ("PortTaken", "awaiting_callback")
    for command in ("history", "show"):
        told = " ".join(cli("flows", command, flow).ended(0).out.split())
        assert "PortTaken" in told, told
        assert "does not accept PortTaken" in told, told
    assert "PortTaken refused" in cli("flows", "history", flow).ended(0).out
    (shown,) = cli("flows", "show", flow, "--json").ended(0).lines
    assert [each["event"] for each in shown["refused"]] == ["PortTaken"]
