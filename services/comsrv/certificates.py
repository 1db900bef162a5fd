"""Certificates of a TLS client, checked when the configuration is read."""

from __future__ import annotations

import ssl
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from libs.validation import Model


class Certificates(Model):
    """What a TLS client has in files; the other side's certificate is always checked."""

    ca_file: str = Field("", description="certificates of who may have signed the device's; the system's where empty")
    certificate_file: str = Field("", description="our own certificate, for devices that ask for one")
    key_file: str = Field("", description="the key of certificate_file")
    server_name: str = Field("", max_length=253, description="name in the device's certificate; the host where empty")

    @field_validator("ca_file", "certificate_file", "key_file")
    @classmethod
    def _there(cls, path: str) -> str:
        if path and not Path(path).is_absolute():
            raise ValueError(f"{path} must be an absolute path")
        if path and not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
        return path

    @model_validator(mode="after")
    def _readable(self) -> Certificates:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file go together")
        self.context()
        return self

    def context(self) -> ssl.SSLContext:
        """Return the context of a new connection, with the files as they are now."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"ca_file: {self.ca_file} holds no certificates: {_text(error)}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file, password=_no_password)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise ValueError(f"certificate_file, key_file: {_text(error)}") from None
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password, readable for this service only")


def _text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
