"""Every machine of this package, in the order a tenant meets them; the last one runs the first three."""

from __future__ import annotations

from typing import Any, Final

from ..engine.machine.machine import Machine
from .checkout import CHECKOUT
from .deployment import DEPLOYMENT
from .login import LOGIN
from .onboarding import ONBOARDING
from .provisioning import PROVISIONING

MACHINES: Final[tuple[Machine[Any], ...]] = (LOGIN, CHECKOUT, PROVISIONING, DEPLOYMENT, ONBOARDING)
