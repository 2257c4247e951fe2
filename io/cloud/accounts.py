"""Who a token belongs to, as an API may say it: an account need not have an e-mail address.

Everything of ours, and of the Rust CLI, names an account by its address. One without gets an address that reaches
nobody (RFC 2606 section 2): its id at `email.invalid`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ..http.messages import Message
from .wire import Customer, TenantInfo, UserInfo, UserMeResponse

EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
"""An e-mail address, as far as it has to be one here."""
_NOT_LOCAL: Final = re.compile(r"[@\s\x00-\x1f\x7f]+")
_NOBODY: Final = "email.invalid"
UNKNOWN_EMAIL: Final = f"unknown@{_NOBODY}"
"""Stands in place of an address that has not been asked for yet."""


class _User(Message, frozen=True, kw_only=True):
    id: str
    email: str | None = None
    name: str | None = None


class UserMeFound(Message, frozen=True, kw_only=True):
    """`UserMeResponse` as an API may send it."""

    user: _User
    customer: Customer | None = None
    tenants: list[TenantInfo] = msgspec.field(default=[])

    def named(self) -> UserMeResponse:
        """The same, and the user has an address."""
        user = self.user
        email = user.email or ""
        if not EMAIL.fullmatch(email):
            email = f"{_NOT_LOCAL.sub('-', user.id) or 'unknown'}@{_NOBODY}"
        return UserMeResponse(
            user=UserInfo(id=user.id, email=email, name=user.name), customer=self.customer, tenants=self.tenants
        )
