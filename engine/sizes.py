"""How large what a flow writes may be, so that no flow fills the disk or the memory of the others.

Only what is written is measured. What an earlier version wrote is read and continues, however large it is.
"""

from __future__ import annotations

from typing import Final

from .errors import NotStorable

STORED_BYTES: Final = 1024 * 1024
"""The most that a context or an event takes as JSON: as much as SQLite writes in a few milliseconds."""
SECRET_BYTES: Final = 64 * 1024
"""The most that an entry of the vault takes, its name included. Each `put` writes all entries of a flow anew."""
ELSEWHERE: Final = "Keep large values in a file or an object store, and its address here."


def check_secret(name: str, secret: str) -> None:
    """Check that a secret is not too large for the vault.

    Args:
        name: What it is called.
        secret: The secret.

    Raises:
        NotStorable: It is.
    """
    size = sum(len(each.encode(errors="surrogatepass")) for each in (name, secret))
    if size > SECRET_BYTES:
        said = f"{name[:40]}..." if len(name) > 40 else name
        raise NotStorable(
            f"the secret {said}: {size:,} bytes with its name, and the vault keeps at most {SECRET_BYTES:,}",
            field=name,
            hint=ELSEWHERE,
        )
