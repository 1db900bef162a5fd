"""One-time links: how the first administrator gets in, without a default password.

Whoever may write the data directory can make one. `voltage up` prints it as
`http://127.0.0.1:6005/#link=...`: the fragment reaches no server log, the page takes
it out of the address and redeems it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from libs.http.tokens import Role
from services.gateway.accounts import Accounts

# A working day: it is printed when the site starts, and may be clicked later.
TTL_S: Final = 8 * 3600
FIRST_USER: Final = "admin"


def create(data_dir: Path, *, user: str = FIRST_USER, role: str = "admin", ttl_s: int = TTL_S) -> str:
    """Return a token that logs a user in once. Only its hash is stored."""
    return Accounts(data_dir).create_link(user, Role(role), ttl_s)
