"""Tab: what the shell is offered."""

from __future__ import annotations

from tests.support.command import CommandLine

from .conftest import offered


def test_tenants(owner: tuple[CommandLine, str]) -> None:
    """Ids of stored tenants, wherever a tenant is named."""
    cli, tenant = owner
    assert offered(cli, "tenants", "show", tenant[:4]) == [tenant]
    assert offered(cli, "secrets", "list", "--tenant", "") == [tenant]


def test_flows(owner: tuple[CommandLine, str]) -> None:
    """Ids of flows, wherever a flow is named."""
    cli, _ = owner
    (row,) = cli("flows", "list", "--json").ended(0).lines
    assert offered(cli, "flows", "show", row["flow"][:3]) == [row["flow"]]


def test_commands(cli: CommandLine) -> None:
    """The commands themselves."""
    assert offered(cli, "ten") == ["tenants"]


def test_trouble_is_silent(owner: tuple[CommandLine, str]) -> None:
    """Where the files cannot be read nothing is offered, and nothing is said."""
    cli, _ = owner
    (cli.directory / "tenants.json").write_text("{")
    assert offered(cli, "tenants", "show", "") == []
    assert offered(cli, "flows", "show", "") != []
