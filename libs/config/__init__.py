"""Configuration: strict YAML, environment variables, and where each value came from.

Start at `load`. A service derives its settings from `Settings`.
"""

from __future__ import annotations

from libs.config.load import Loaded, load
from libs.config.settings import (
    InfluxSettings,
    LogSettings,
    RedisSettings,
    Secret,
    Settings,
    Shared,
)
from libs.config.yaml_loader import Document, load_yaml, parse_yaml

__all__ = [
    "Document",
    "InfluxSettings",
    "Loaded",
    "LogSettings",
    "RedisSettings",
    "Secret",
    "Settings",
    "Shared",
    "load",
    "load_yaml",
    "parse_yaml",
]
