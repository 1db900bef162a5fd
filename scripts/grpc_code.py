"""The Python of gateway.proto: gateway_pb2.py and its types, as protoc of grpcio-tools writes them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "services" / "comsrv" / "plugins" / "grpc"
# Messages are registered by this name, which nobody else takes.
NAME: Final = "voltage/gateway/v1"


@cache
def _made() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as place:
        command = [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{NAME}={FOLDER}", f"--python_out={place}",
            f"--pyi_out={place}", f"{NAME}/gateway.proto",
        ]  # fmt: skip
        subprocess.run(command, check=True)
        return {file.name: file.read_text(encoding="utf-8") for file in (Path(place) / NAME).iterdir()}


def messages() -> str:
    """Return the module of the messages."""
    return _made()["gateway_pb2.py"]


def types() -> str:
    """Return their types."""
    return _made()["gateway_pb2.pyi"]
