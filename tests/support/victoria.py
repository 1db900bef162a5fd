"""A private VictoriaMetrics on a free loopback port."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tests.support.influx import pings
from tests.support.servers import free_port

INSTALL = "apt-get install victoria-metrics (Debian; stop the service it starts)"


class VictoriaServer:
    """Debian's victoria-metrics in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it answers."""
        binary = shutil.which("victoria-metrics")
        assert binary, f"victoria-metrics is missing; install it with: {INSTALL}"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "victoria.log"
        options = ["-retentionPeriod", "100y", "-memory.allowedPercent", "20", "-loggerLevel", "WARN"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [binary, "-httpListenAddr", f"127.0.0.1:{port}", "-storageDataPath", str(folder / "data"), *options],
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 20
        while not pings(self.url):
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < end, "victoria-metrics does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(20)
