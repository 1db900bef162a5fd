"""Parameters of the Modbus protocols: where the device is, and how it wants to be talked to."""

from __future__ import annotations

import ssl
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from libs.errors import InvalidError
from libs.services import resolve_port
from libs.validation import Model
from services.comsrv.certificates import Certificates
from services.comsrv.fields import Integer
from services.comsrv.plugins.modbus.mapping import Addressing


def _port(port: int | str) -> int | str:
    try:
        resolve_port(port)
    except InvalidError as error:
        raise ValueError(str(error)) from None
    return port


Port = Annotated[
    int | str, AfterValidator(_port), Field(description="a number, or base+20 to count from the port base")
]
Parity = Literal["none", "even", "odd", "mark", "space"]


class Timing(Model):
    """What every Modbus protocol has. The pauses and the fallback are of the link: the same for its channels."""

    timeout_ms: int = Field(1000, ge=10, le=60_000, description="for connecting and for each answer")
    retries: int = Field(0, ge=0, le=10, description="more attempts of a read without an answer; a write has none")
    addressing: Addressing = "zero"
    pause_ms: int = Field(0, ge=0, le=10_000, description="between an answer and the next request")
    connect_pause_ms: int = Field(0, ge=0, le=60_000, description="between a connection and the first request")
    reconnect_pause_ms: int = Field(
        0, ge=0, le=60_000, description="between the end of a connection and the next; for devices that take one client"
    )
    return_after_s: int = Field(60, ge=1, le=86_400, description="on the fallback, time until the first is tried again")


class Network(Model):
    """An endpoint in the network."""

    host: str = Field(min_length=1, max_length=253)
    port: Port = 502


class TcpParameters(Timing, Network):
    """Parameters of a modbus_tcp channel."""

    fallback: Network | None = Field(None, description="the endpoint to use while the first does not answer")
    any_unit: bool = Field(
        default=False, description="take answers of any unit, from devices that name another than was asked"
    )
    connection: str = Field(
        "", max_length=64, description="channels of one endpoint share one connection, unless this name differs"
    )


class RtuOverTcpParameters(TcpParameters):
    """Parameters of a modbus_rtu_over_tcp channel."""

    retries: int = Field(1, ge=0, le=10, description="more attempts of a read without an answer; a write has none")
    frame_gap_ms: float = Field(2.0, ge=0, le=1000, description="silence before a request")
    turnaround_ms: int = Field(100, ge=0, le=10_000, description="wait after a write to unit 0, which nobody answers")


class TlsParameters(TcpParameters, Certificates):
    """Parameters of a modbus_tls channel."""

    port: Port = 802
    minimum_version: Literal["1.2", "1.3"] = "1.2"

    def context(self) -> ssl.SSLContext:
        """Return the context of a new connection, with the files as they are now."""
        context = super().context()
        if self.minimum_version == "1.3":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


class SerialPort(Model):
    """A serial port, as the fallback of another."""

    port: str = Field(min_length=1, description="/dev/ttyUSB0, better /dev/serial/by-id/...")


class RtuParameters(Timing):
    """Parameters of a modbus_rtu channel."""

    port: str = Field(min_length=1, max_length=255, description="/dev/ttyUSB0, better /dev/serial/by-id/...")
    baud_rate: int = Field(9600, ge=50, le=4_000_000)
    data_bits: int = Field(8, description="RTU needs 8")
    parity: Parity = "none"
    stop_bits: Literal[1, 2] = 1
    retries: int = Field(1, ge=0, le=10, description="more attempts of a read without an answer; a write has none")
    frame_gap_ms: float | Literal["auto"] = Field(
        "auto", description="silence before a request; auto is 3.5 characters, 1.75 ms above 19,200 baud"
    )
    turnaround_ms: int = Field(100, ge=0, le=10_000, description="wait after a write to unit 0, which nobody answers")
    echo: bool = Field(default=False, description="the adapter sends our own requests back: take them off")
    fallback: SerialPort | None = Field(None, description="the port to use while the first does not answer")

    @field_validator("port")
    @classmethod
    def _device(cls, port: str) -> str:
        if not port.startswith("/"):
            raise ValueError(f"{port!r} is no device file, such as /dev/ttyUSB0")
        return port

    @field_validator("data_bits")
    @classmethod
    def _eight(cls, bits: Integer) -> int:
        if bits != 8:
            raise ValueError(f"an RTU frame has 8 data bits, not {bits}")
        return bits

    @field_validator("frame_gap_ms")
    @classmethod
    def _gap(cls, gap: float | str) -> float | str:
        if not isinstance(gap, str) and not 0 <= gap <= 1000:
            raise ValueError(f"{gap:g} is not from 0 to 1000, nor auto")
        return gap

    @property
    def character_s(self) -> float:
        """How long one character takes: start bit, data, parity, stop bits."""
        return (1 + self.data_bits + (self.parity != "none") + self.stop_bits) / self.baud_rate

    @property
    def gap_s(self) -> float:
        """The silence before a request, in seconds."""
        if not isinstance(self.frame_gap_ms, str):
            return self.frame_gap_ms / 1000
        # MODBUS over Serial Line V1.02, 2.5.1.1: fixed above 19,200 baud.
        return 0.00175 if self.baud_rate > 19_200 else 3.5 * self.character_s
