"""What the command line is called."""

from __future__ import annotations

from typing import Final

CLI: Final = "systemprompt-cloud"

ACCOUNT_VARIABLE: Final = "SYSTEMPROMPT_ACCOUNT"
"""Names the account to use."""
