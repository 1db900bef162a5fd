"""DuckDB in memory, over our Parquet files and nothing else.

Extensions are neither installed nor loaded on demand (its default downloads
them), files outside the history folder are out of reach, memory and threads are
bounded, and the configuration is locked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb


def connect(folder: Path, *, memory_mb: int = 256, threads: int = 1) -> Any:
    """Return a connection that can read and spill in `folder` only."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": f"{memory_mb}MB",
            "threads": str(threads),
            "temp_directory": str(folder / "spill"),
        },
    )
    # In this order: without external access neither directory may be set, and after the lock nothing.
    connection.execute("SET allowed_directories = ?", [[str(folder)]])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection
