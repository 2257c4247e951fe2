"""The options of what is logged in to and bought; what there is to choose from is in the wire format."""

from __future__ import annotations

import click

from ...io.cloud.wire import DEFAULT_REGION, REGIONS, OAuthProvider
from .completion import complete_from
from .parameters import checking

provider_option = click.option(
    "--provider",
    type=click.Choice([each.value for each in OAuthProvider]),
    default=OAuthProvider.GITHUB.value,
    help="Who you log in with.",
)


def known_plan(value: str) -> str:
    """The plan, if anything could be called that. Raises `click.BadParameter`."""
    if not value.strip():
        raise click.BadParameter("it is empty; `plans` lists what there is")
    return value


plan_option = click.option(
    "--plan",
    metavar="ID",
    callback=checking(known_plan),
    help="The plan: its id, name or price id; chosen from a list on a terminal.",
)


def known_region(value: str) -> str:
    """The region, if there is one of that name. Raises `click.BadParameter` that lists what there is."""
    if value not in REGIONS:
        there = "; ".join(f"{name} {place}" for name, place in REGIONS.items())
        raise click.BadParameter(f"no region {value!r}. Regions: {there}")
    return value


region_option = click.option(
    "--region",
    metavar="NAME",
    callback=checking(known_region),
    shell_complete=complete_from(REGIONS, REGIONS),
    help=f"Where it runs: {', '.join(REGIONS)}. [default: {DEFAULT_REGION}, chosen from a list on a terminal]",
)
