"""A device that takes writes, in a process of its own: prints its port, ends with its standard input."""

from __future__ import annotations

import asyncio
import sys

from tests.integration.comsrv.device import Device

REGISTERS = 256


async def main() -> None:
    """Serve until standard input ends."""
    device = Device()
    device.set_registers(0, *([0] * REGISTERS))
    await device.start()
    print(device.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
