"""`demo` and `sandbox`: the local cloud."""

from __future__ import annotations

import json
import signal
import stat

import httpx

from tests.support.command import CommandLine


def test_demo(cli: CommandLine) -> None:
    """A false event is dropped, the stream drops, polling goes on; the tenant is stored and each state told."""
    ran = cli("demo").ended(0)
    assert "an event of the stream names the tenant tnt_sandbox_other; it was dropped" in ran.err
    lost, back = (ran.err.index(words) for words in ("Stream lost, polling (", "Stream is back"))
    assert lost < back
    assert "paying for the tenant" in ran.out
    assert "! stream lost" in ran.out
    assert "TenantSaved" not in ran.out
    (directory,) = (cli.directory / "demo").iterdir()
    assert (directory / ".made-by-demo").exists()
    assert f"--dir {directory} flows history" in ran.err
    (tenant,) = json.loads((directory / "tenants.json").read_text())["tenants"]
    assert tenant["id"] in ran.err
    assert stat.S_IMODE((directory / "credentials.json").stat().st_mode) == 0o600
    assert not (cli.directory / "credentials.json").exists()
    assert "ada@sandbox.example" in cli("--dir", str(directory), "whoami").ended(0).out


def test_demo_interrupted(cli: CommandLine) -> None:
    """`--interrupt` stops after the payment, shows what is on disk, and goes on; `--dir` names the place."""
    ran = cli("demo", "--interrupt", "--json", "--dir", "here").ended(0)
    events = [(line["machine"], line.get("event")) for line in ran.lines]
    assert events.index(("checkout", "PaymentCompleted")) < events.index(("onboarding", "resumed"))
    assert "Stopped right after the payment" in ran.err
    assert f"--dir {cli.home}/here flows resume" in ran.err
    assert ran.lines[-1]["verdict"] == "success"
    assert (cli.home / "here" / "tenants.json").exists()


def test_demo_leaves_a_real_login_alone(cli: CommandLine) -> None:
    """A directory with credentials of a real cloud is refused."""
    stored = {
        "api_token": "t",
        "api_url": "https://api.systemprompt.io",
        "authenticated_at": "2026-01-01T00:00:00Z",
        "user_email": "a@b.example",
    }
    file = cli.home / "real" / "credentials.json"
    file.parent.mkdir(mode=0o700)
    file.write_text(json.dumps(stored))
    before = file.read_bytes()
    assert cli("demo", "--dir", "real", "--json").ended(1).lines[-1]["error"] == "UnsafeFile"
    assert file.read_bytes() == before


def test_sandbox(cli: CommandLine) -> None:
    """Its address is the first line; SIGTERM and Ctrl-C end it with 0; as JSON too."""
    for options, number in ((["--seed", "7"], signal.SIGTERM), (["--json"], signal.SIGINT)):
        running = cli.begin("sandbox", *options, "--fault", "slow:seconds=0,path=/nothing")
        line = running.wait_line()
        url = json.loads(line)["url"] if "--json" in options else line
        assert httpx.get(f"{url}/sandbox/ledger").json()["checkouts"] == 0
        running.interrupt(number)
        running.wait().ended(0)


def test_sandbox_faults(cli: CommandLine) -> None:
    """Its help lists the faults; one that does not exist is refused with the list; so is a port that is taken."""
    assert "drop-stream:after=3" in cli("sandbox", "--help").ended(0).out
    assert "drop-stream" in cli("sandbox", "--fault", "earthquake").ended(2).err
    running = cli.begin("sandbox")
    port = running.wait_line().rpartition(":")[2]
    assert cli("sandbox", "--port", port, "--json").ended(1).lines[-1]["error"] == "PortBusy"
