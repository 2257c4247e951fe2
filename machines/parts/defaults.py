"""The ports and times that the contexts of several machines have by default, and every front end with them."""

from __future__ import annotations

from typing import Final

LOGIN_PORT: Final = 8765
"""Where a browser comes back to after a login."""

CHECKOUT_PORT: Final = 8766
"""Where a browser comes back to after a payment."""

BROWSER_SECONDS: Final = 300.0
"""How long a person in a browser is waited for."""

TENANT_SECONDS: Final = 600.0
"""How long a tenant is waited for: until it is built, or until it runs an image."""
