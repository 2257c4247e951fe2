"""`secrets` and `domain`: as they are typed."""

from __future__ import annotations

import subprocess

import pytest
import typer
from systemprompt_cloud.cli.tenants.domain import known_domain
from systemprompt_cloud.cli.tenants.secrets import LONGEST_INPUT, known_names, parted

from tests.support.command import COMMAND, CommandLine

from .conftest import Clouds, at_terminal, buy

Owner = tuple[CommandLine, str]


def test_set_list_unset(owner: Owner) -> None:
    """A value goes in by stdin, its name comes out, the value never does; unset, the name is gone."""
    cli, tenant = owner
    ran = cli("secrets", "set", "TOKEN_A", given="hunter2hunter2\n").ended(0)
    assert "Set TOKEN_A" in ran.err
    listed = cli("secrets", "list").ended(0)
    assert "TOKEN_A" in listed.out.splitlines()
    assert "hunter2" not in ran.out + ran.err + listed.out + listed.err
    asked = cli("secrets", "unset", "TOKEN_A").ended(2).err
    assert f"Error: Remove the secret TOKEN_A of {tenant}? " in asked
    assert "--yes is required when not running interactively." in asked
    assert {"tenant": tenant, "key": "TOKEN_A"} in cli("secrets", "list", "--json").ended(0).lines
    unset = ("secrets", "unset", "TOKEN_A", "--tenant", tenant, "--yes")
    assert cli(*unset, "--json").ended(0).lines == [{"tenant": tenant, "unset": ["TOKEN_A"]}]
    assert "TOKEN_A" not in cli("secrets", "list").ended(0).out
    gone = cli(*unset).ended(1).err
    assert "List them: systemprompt-cloud secrets list" in gone


def test_several_at_once(owner: Owner) -> None:
    """Several names take a line each; a line too few sets nothing."""
    cli, tenant = owner
    ran = cli("secrets", "set", "MANY_A", "MANY_B", "--json", given="one-value\nother-value\n").ended(0)
    assert ran.lines == [{"tenant": tenant, "set": ["MANY_A", "MANY_B"]}]
    cli("secrets", "set", "MANY_C", "MANY_D", given="one-value\n").ended(2)
    assert "MANY_C" not in cli("secrets", "list").ended(0).out


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb", ["a", "b"]),
        ("a\x0cb\u2028c\nd\n", ["a\x0cb\u2028c", "d"]),
        ("a\n\n", ["a", ""]),
    ],
)
def test_a_line_for_each(text: str, values: list[str]) -> None:
    """Only a line feed ends a value: other characters that Python takes for the end of a line are part of it."""
    assert parted(text, 2) == values


@pytest.mark.parametrize("text", ["", "a\n", "a\nb\nc\n"])
def test_too_few_or_too_many_lines(text: str) -> None:
    """Which value belongs to which name is not guessed."""
    with pytest.raises(typer.BadParameter, match="lines for 2 names"):
        parted(text, 2)


def test_all_of_it_for_one() -> None:
    """One name takes every line, a certificate say, but for the end of the last."""
    assert parted("a\nb\n\n", 1) == ["a\nb\n"]


@pytest.mark.parametrize(
    ("names", "said"),
    [(["9KEY"], "is no name for a secret"), ([""], "is no name for a secret"), (["KEY", "KEY"], "given twice")],
)
def test_no_names(names: list[str], said: str) -> None:
    """What cannot be a name, or is one twice, is refused and named."""
    with pytest.raises(typer.BadParameter, match=said):
        known_names(names)


def test_a_value_as_an_argument(owner: Owner) -> None:
    """It is refused, and not repeated; so is a name without a value."""
    cli, _ = owner
    ran = cli("secrets", "set", "KEY=hunter2hunter2", "--json").ended(2)
    assert "give the name only" in ran.lines[0]["message"]
    assert "hunter2" not in ran.out + ran.err
    assert "there is no value for KEY" in cli("secrets", "set", "KEY").ended(2).err


@pytest.mark.parametrize(
    ("given", "said"),
    [(b"\xff\xfa", "is not UTF-8 text"), (b"x" * (LONGEST_INPUT + 1), f"more than {LONGEST_INPUT} bytes")],
)
def test_not_text(owner: Owner, given: bytes, said: str) -> None:
    """Bytes that are no text, or far too many, are refused by name, in the C locale, too, where Python lets them in."""
    cli, _ = owner
    ran = subprocess.run(
        [*COMMAND, "secrets", "set", "KEY"],
        input=given,
        capture_output=True,
        env=cli.environ | {"LC_ALL": "C"},
        cwd=cli.home,
        check=False,
    )
    assert ran.returncode == 2
    assert said in ran.stderr.decode()
    assert b"Traceback" not in ran.stderr


def test_nobody_may_be_asked(owner: Owner) -> None:
    """At a terminal --no-input does not wait for somebody to type."""
    cli, _ = owner
    assert "pipe it in" in at_terminal(cli, "secrets", "set", "KEY", "--no-input").ended(2).err


def test_secrets_of_nobody(cli: CommandLine) -> None:
    """Without a tenant it is said how one is named."""
    ran = cli("secrets", "list", "--json").ended(1)
    assert ran.lines[0]["error"] == "TenantNotConfigured"


def test_domain(owner: Owner) -> None:
    """A domain is set, shows what DNS must say, and is taken away again."""
    cli, tenant = owner
    ran = cli("domain", "set", "Shop.Example.com.").ended(0)
    assert ran.out.startswith("shop.example.com: ")
    assert ran.out.splitlines()[1].split() == ["TYPE", "HOST", "VALUE", "TTL"]
    (line,) = cli("domain", "show", "--json").ended(0).lines
    assert line["domain"] == "shop.example.com"
    assert line["dns_instructions"]["record_type"]
    assert "--yes" in cli("domain", "delete").ended(2).err
    delete = ("domain", "delete", "--tenant", tenant, "--yes")
    assert cli(*delete, "--json").ended(0).lines == [{"tenant": tenant, "deleted": True}]
    assert f"{tenant} has no domain. Give it one: systemprompt-cloud domain set DOMAIN" in cli("domain", "show").err
    assert cli("domain", "show", "--json").ended(0).lines == [{"tenant": tenant, "domain": None}]
    assert "There is nothing to take away" in cli(*delete).ended(1).err


def test_domain_is_asked_for_again(cli: CommandLine, clouds: Clouds) -> None:
    """A server that was busy is asked once more: an idempotency key goes along, so it cannot act twice."""
    cli.environ["SYSTEMPROMPT_API_URL"] = clouds("--fault", "error:status=503,path=/custom-domain")
    buy(cli)
    cli("domain", "set", "shop.example.com").ended(0)


@pytest.mark.parametrize(
    "domain", ["", "nodots", "-a.example", "a..b", "example.123", "a b.example", "x" * 64 + ".com"]
)
def test_no_domain(domain: str) -> None:
    """What is no domain name is refused."""
    with pytest.raises(typer.BadParameter, match="is no domain name"):
        known_domain(domain)


def test_no_domain_is_sent(cli: CommandLine) -> None:
    """A mistake in the name comes before everything else: nobody has to be logged in to hear of it."""
    assert "is no domain name" in " ".join(cli("domain", "set", "nodots").ended(2).err.split())


def test_international_domain() -> None:
    """A name in any script is sent as DNS knows it."""
    assert known_domain("bücher.example") == "xn--bcher-kva.example"
