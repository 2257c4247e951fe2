"""What the lines for people take from a machine's own table."""

from __future__ import annotations

from systemprompt_cloud.cli.screen.render import source_of
from systemprompt_cloud.machines.every import MACHINES


def test_a_state_says_by_its_tag_where_its_news_comes_from() -> None:
    """Two machines follow a server; no other state of any machine has a source, nor has a state nobody knows."""
    found = {
        (each.name, state): source
        for each in MACHINES
        for state in each.states
        if (source := source_of(each.name, state))
    }
    assert found == {
        ("checkout", "awaiting_tenant_streaming"): "stream",
        ("checkout", "awaiting_tenant_polling"): "polling",
        ("provisioning", "streaming"): "stream",
        ("provisioning", "polling"): "polling",
    }
    assert source_of("provisioning", "polling_for_ever") == ""
    assert source_of("parcel", "polling") == ""
