"""What decoding a file or a body raises when it does not hold what it must."""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: no JSON or not of the shape, no UTF-8 inside a string, nested deeper than the decoder goes."""
