"""Check that generated files are what their generators write now; `--write` writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from libs.redis import keys
from scripts import alarm_states, grpc_code
from services.commands import reference, settings_reference

ROOT = Path(__file__).parent.parent
GENERATED: dict[str, Callable[[], str]] = {
    "redis_functions/lib/keys.lua": keys.lua_source,
    "redis_functions/README.md": reference.readme,
    "config/SETTINGS.md": settings_reference.markdown,
    "docs/alarm-states.md": alarm_states.markdown,
    "services/comsrv/plugins/grpc/gateway_pb2.py": grpc_code.messages,
    "services/comsrv/plugins/grpc/gateway_pb2.pyi": grpc_code.types,
}


def main() -> int:
    """Name the stale files; 1 when there are any."""
    stale = 0
    for name, generate in GENERATED.items():
        file, text = ROOT / name, generate()
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if "--write" in sys.argv:
            file.write_text(text, encoding="utf-8")
            print(f"{name}: written")
        else:
            print(f"{name} is stale; run: .venv/bin/python -m scripts.check_generated --write")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
