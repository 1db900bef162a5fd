"""Settings of hissrv: config/hissrv.yaml, `VOLTAGE_...`, `HISSRV_...`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import Field

from libs.config import InfluxSettings, Settings
from libs.http.bodies import MAX_UPLOAD_BYTES
from libs.validation import Id, Model


class StoreSettings(Model):
    """The embedded store, the one that is used without an InfluxDB."""

    folder: Path | None = Field(None, description="where it keeps its files; without it <data_dir>/history")
    window_ms: int = Field(600_000, ge=1000, le=86_400_000, description="age at which the open window is compacted")
    window_points: int = Field(4_000_000, ge=1000, description="size at which the open window is compacted")
    retention_days: int = Field(400, ge=0, le=36_500, description="how long samples are kept; 0 for ever")
    max_disk_percent: float = Field(95, gt=0, le=100, description="a fuller disk takes no more history")
    query_timeout_s: float = Field(30, gt=0, description="a query that takes longer is refused")
    query_samples: int = Field(100_000_000, ge=1000, description="a query that reads more samples is refused")


class ConsumerSettings(Model):
    """How the queue is taken."""

    name: Id | None = Field(None, description="consumer in the group; without it the machine's name")
    batch_entries: int = Field(500, ge=1, le=1000)
    linger_ms: int = Field(250, ge=0, le=10_000, description="pause after a small batch: fewer, larger commits")
    idle_ms: int = Field(30_000, ge=1000, description="what another consumer left this long is taken over")


class TransferSettings(Model):
    """Files of samples that come and go."""

    max_upload_bytes: int = Field(MAX_UPLOAD_BYTES, ge=1000, description="a larger file to import is 413")
    keep_days: int = Field(
        7, ge=1, le=3650, description="exports, and files whose import never ended, go after so long"
    )


class HissrvSettings(Settings):
    """All settings of hissrv."""

    store: StoreSettings = StoreSettings()
    influxdb: InfluxSettings = InfluxSettings()
    consumer: ConsumerSettings = ConsumerSettings()
    transfer: TransferSettings = TransferSettings()
    replay_days: float = Field(7, ge=0, le=366, description="how long the replay log is kept; 0: it is not written")
    replay_mb: int = Field(4096, ge=16, description="how much of the disk the replay log may take")
    replay_memory_mb: int = Field(1024, ge=64, description="how much memory a replay may take")

    @property
    def replay_folder(self) -> Path:
        """The folder of the replay log."""
        return self.data_dir.absolute() / "replay"

    @property
    def store_folder(self) -> Path:
        """The embedded store's folder."""
        return self.store.folder or self.data_dir / "history"

    @property
    def consumer_name(self) -> str:
        """This consumer's name: it must be the same after a restart, so that it gets its own entries back."""
        name = self.consumer.name or os.environ.get("HOSTNAME") or socket.gethostname()
        return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:64] or "hissrv"
