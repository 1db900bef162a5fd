"""The array encoder writes the bytes of convert_to_line_protocol: the same vectors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from libs.influx.lines import encode, head
from services.hissrv.recording import Mapping, Recorder
from services.hissrv.store.contract import quality_number

VECTORS: list[dict[str, Any]] = orjson.loads((Path(__file__).parents[2] / "vectors/line_protocol.json").read_bytes())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any]) -> None:
    """Each vector's lines, byte for byte; the mapping as hissrv reads it."""
    mappings = [Mapping.model_validate(vector["mapping"])] if vector["mapping"] else []
    recorder = Recorder(mappings)
    lines = [
        line
        for point in vector["points"]
        for line in encode(
            [head(point["source"], recorder.label(point["source"]))],
            np.array([float(point.get("value", math.nan))]),
            [quality_number(point.get("quality", ""))],
            point["at_ms"],
        )
    ]
    assert lines == vector["lines"]
