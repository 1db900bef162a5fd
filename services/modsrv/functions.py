"""Typed facade over the Redis Functions that modsrv uses."""

from __future__ import annotations

from typing import Any, Final

from libs.redis.definitions import Definitions, Names
from libs.redis.functions import Functions

TEMPLATE: Final = Names("template", "template_upsert", "template_get", "template_list", "template_delete")
MODEL: Final = Names("model", "model_upsert", "model_get", "model_list", "model_delete")


class ModelFunctions:
    """Templates and models: definitions, values, actions."""

    def __init__(self, functions: Functions) -> None:
        """Keep the gate to Redis."""
        self._functions = functions
        self.templates = Definitions(functions, TEMPLATE)
        self.models = Definitions(functions, MODEL)

    async def values(self, model: str) -> bytes:
        """Return a model's present values with quality and instant."""
        return await self._functions.read("model_get_values", model)

    async def expanded(self, model: str) -> bytes:
        """Return what a model's names mean: name -> reference."""
        return await self._functions.read("model_expand", model)

    async def act(self, model: str, command: dict[str, Any]) -> bytes:
        """Submit the command behind an action; returns the command."""
        return await self._functions.call("model_set_value", model, command)

    async def reverse(self, channel: str, kind: str, point: str) -> bytes:
        """Return the models a point belongs to."""
        return await self._functions.read("model_reverse_lookup", channel, kind, point)
