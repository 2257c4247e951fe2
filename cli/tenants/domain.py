"""`domain`: the custom domain of a tenant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from ...errors import ApiError
from ..screen.terminal import clean, put, put_done, put_json, put_table, say
from ..shared.api import ask_api, ask_once
from ..shared.names import CLI
from ..shared.parameters import Argument, Command
from ..shared.settings import Settings, settings_of
from .choice import chosen_tenant, confirmed_tenant, tenant_option, tenant_yes_option

if TYPE_CHECKING:
    from ...io.cloud.wire import CustomDomainResponse

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
# RFC 1123 section 2.1, encoded: at least two labels, the last one not a number.
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?!\d+$){_LABEL}")


@click.command("show", cls=Command, epilog=f"Example: {CLI} domain show --json")
@tenant_option
@click.pass_context
def show(context: click.Context, tenant: str | None) -> None:
    """Show a tenant's domain, and the DNS record to add. Needs a login."""
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    try:
        _put(settings, ask_api(settings, lambda api: api.custom_domain(chosen)))
    except ApiError as exc:
        if exc.code != "domain_not_found":
            raise
        way = settings.command("domain set DOMAIN")
        put_done(settings, {"tenant": chosen, "domain": None}, f"{clean(chosen)} has no domain. Give it one: {way}")


@click.command("set", cls=Command, epilog=f"Example: {CLI} domain set shop.example.com")
@click.argument("domain", cls=Argument, metavar="DOMAIN", about="A name you own.")
@tenant_option
@click.pass_context
def set_domain(context: click.Context, domain: str, tenant: str | None) -> None:
    """Give a tenant a domain, and show the DNS record to add. Needs a login."""
    settings = settings_of(context)
    name = known_domain(domain)
    chosen = chosen_tenant(settings, tenant)
    _put(settings, ask_once(settings, lambda api, key: api.set_custom_domain(chosen, name, idempotency_key=key)))


@click.command("delete", cls=Command, epilog=f"Example: {CLI} domain delete --tenant tenant_4f2a --yes")
@tenant_option
@tenant_yes_option
@click.pass_context
def delete(context: click.Context, tenant: str | None, yes: bool) -> None:
    """Take a tenant's domain away; asks first. Needs a login."""
    settings = settings_of(context)
    question = "Take the domain of {} away? It stops answering there."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    ask_api(settings, lambda api: api.delete_custom_domain(chosen))
    done = {"tenant": chosen, "deleted": True}
    put_done(settings, done, f"{clean(chosen)} has no domain of its own any more.")


def known_domain(value: str) -> str:
    """A domain's name as DNS knows it: lower case, encoded (RFC 5891, UTS 46), without a dot at its end.

    Raises:
        click.BadParameter: It is none.
    """
    import idna

    try:
        name = idna.encode(value.strip().removesuffix("."), uts46=True).decode()
    except idna.IDNAError:
        name = ""
    if len(name) > 253 or not _DOMAIN.fullmatch(name):
        raise click.BadParameter(f"{value!r} is no domain name; it looks like shop.example.com", param_hint="DOMAIN")
    return name


def _put(settings: Settings, found: CustomDomainResponse) -> None:
    if settings.json:
        put_json(found)
        return
    record = found.dns_instructions
    verified = "verified" if found.verified else "not verified yet"
    put(f"{clean(found.domain)}: {clean(found.status)}, {verified}")
    if not found.verified:
        say("Add this DNS record:")
        rows = [("TYPE", "HOST", "VALUE", "TTL")]
        rows.append((clean(record.record_type), clean(record.host), clean(record.value), str(record.ttl)))
        put_table(rows)
        say(f"Then check: {settings.command('domain show')}")
