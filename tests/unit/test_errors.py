"""An error that crosses a process comes out as what it was."""

from __future__ import annotations

from libs.errors import ConfigurationError, InternalError, VoltageError, error_of


def test_every_code_of_the_tree_comes_back_as_its_class():
    kinds = {kind for kind in VoltageError.__subclasses__() if kind.__module__ == "libs.errors"}
    assert {type(error_of(kind.code, "x")) for kind in kinds} == kinds - {ConfigurationError}
    assert isinstance(error_of(None, "x"), InternalError)
