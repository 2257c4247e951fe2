"""The account that a command is for: named by an option, by the environment, or the active one."""

from __future__ import annotations

import os

import click

from ...io.local.paths import CloudPaths, switch_path
from .names import ACCOUNT_VARIABLE


def account_name(value: str) -> str:
    """The name of an account, as an option has it. Raises `click.BadParameter`."""
    from ...io.local.account_paths import name_problem

    if problem := name_problem(value):
        raise click.BadParameter(f"the name of the account {problem}")
    return value


def paths_of_account(paths: CloudPaths, named: str | None, wanted: str) -> CloudPaths:
    """The paths of the account that the option or the environment names; a switch that was killed is completed."""
    if os.path.lexists(switch_path(paths)):
        from ...io.local.account_switch import complete_switch

        complete_switch(paths)
    if not wanted:
        return paths
    from ...io.local.account_paths import account_paths, name_problem
    from ...io.local.environment import API_TOKEN, environment_token

    if named is None:
        if problem := name_problem(wanted):
            raise click.BadParameter(f"the name of the account {problem}", param_hint=ACCOUNT_VARIABLE)
    elif environment_token(os.environ):
        raise click.BadParameter(f"{API_TOKEN} is set and overrides every account. Unset it", param_hint="--account")
    return account_paths(paths, wanted)
