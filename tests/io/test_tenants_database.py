"""The address of a tenant's database from outside, once external access is on."""

from __future__ import annotations

import pytest
from systemprompt_cloud.io.local.tenants import external_database_url


@pytest.mark.parametrize(
    ("inside", "hostname", "outside"),
    [
        (
            "postgres://app:p%40w@db.internal:5432/t1?sslmode=disable&application_name=x",
            None,
            "postgres://app:p%40w@db.systemprompt.io:5432/t1?sslmode=require&application_name=x",
        ),
        ("postgresql://a:b@db-sandbox.internal/t", None, "postgresql://a:b@db-sandbox.systemprompt.io/t"),
        ("postgres://a:b@db.internal/t", "t1.Sandbox.example", "postgres://a:b@db-sandbox.systemprompt.io/t"),
        ("postgres://sandbox:sandbox@db/sandbox", "h", "postgres://sandbox:sandbox@db.systemprompt.io/sandbox"),
        ("postgres://a@[fd00::1]:6432/t?sslmode=verify-full", None, "postgres://a@db.systemprompt.io:6432/t?sslmode=verify-full"),
        ("postgres://db.internal", None, "postgres://db.systemprompt.io"),
        ("postgres://a:b@h/t?xsslmode=disable", None, "postgres://a:b@db.systemprompt.io/t?xsslmode=disable"),
        ("host=db user=a", None, "host=db user=a"),
        ("postgres://[broken/t", None, "postgres://[broken/t"),
        ("", None, ""),
    ],
)  # fmt: skip
def test_external_access_changes_host_and_sslmode_and_nothing_else(
    inside: str, hostname: str | None, outside: str
) -> None:
    """User, password, port, database and other parameters stay; what is no URL stays whole."""
    assert external_database_url(inside, hostname) == outside
