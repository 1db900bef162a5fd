"""The library of energy rules: templates with parameters in config/rules/library, made into a file of rules.

A template is plain YAML; its text may name parameters as `${limit_kw}`, and calculate with them as
`${limit_kw - release_kw}`. What comes out is an ordinary file of rules, that a person may read and change.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from libs.config.yaml_loader import parse_yaml, read_yaml
from libs.errors import ConfigurationError, InvalidError, NotFoundError, Problem
from libs.points import check_id, parse_reference
from libs.validation import Model, examined, nearest
from services.rulesrv.schemas import Rule

FOLDER: Final = Path("rules") / "library"
_PLACE: Final = re.compile(r"\$\{([^}]*)\}")
_OPERATIONS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
Value = float | str


class Parameter(Model):
    """What a template may be told, and what it takes without that."""

    default: float | str
    kind: Literal["number", "model", "reference", "point"] = "number"
    min: float | None = None
    max: float | None = None
    unit: str = ""
    description: str = Field(min_length=1)

    def taken(self, text: object) -> Value:
        """Return a value as the template uses it.

        Raises:
            ValueError: it is none of this kind, or outside of the range.
        """
        if self.kind == "model":
            check_id(str(text), "it")
            return str(text)
        if self.kind in {"reference", "point"}:
            parse_reference(f"comsrv:{text}" if self.kind == "point" else str(text))
            return str(text)
        try:
            number = float(str(text))
        except ValueError:
            raise ValueError("must be a number") from None
        if self.min is not None and number < self.min:
            raise ValueError(f"must be at least {self.min:g}")
        if self.max is not None and number > self.max:
            raise ValueError(f"must be at most {self.max:g}")
        return number


class Template(Model):
    """A file of the library."""

    name: str
    purpose: str = Field(min_length=10)
    source: str = Field(min_length=10, description="a standard or a document, or that there is none")
    notes: str = ""
    parameters: dict[str, Parameter]
    template: str

    @model_validator(mode="after")
    def _defaults(self) -> Template:
        for name, parameter in self.parameters.items():
            try:
                parameter.taken(parameter.default)
            except (ValueError, InvalidError) as error:
                raise ValueError(f"parameters.{name}: the default {error}") from None
        return self


def templates(config_dir: Path) -> dict[str, Path]:
    """Return the files of a site's library by name."""
    return {path.stem: path for path in sorted((config_dir / FOLDER).glob("*.yaml"))}


def read_template(config_dir: Path, name: str) -> Template:
    """Read a template.

    Raises:
        NotFoundError: there is none of that name.
        ConfigurationError: its problems with file and line.
    """
    found = templates(config_dir)
    if name not in found:
        raise NotFoundError(f"no template {name!r} in {config_dir / FOLDER}{nearest(name, found)}")
    document = read_yaml(found[name])
    template, problems = examined(Template, document.data, document.unsaid)
    if template is None or problems:
        raise ConfigurationError([*document.problems, *problems])
    return template


def values_of(template: Template, given: Mapping[str, str]) -> dict[str, Value]:
    """Return every parameter's value.

    Raises:
        InvalidError: every problem of what was given.
    """
    problems = [
        Problem(name, f"the template has no parameter {name}{nearest(name, template.parameters)}")
        for name in given
        if name not in template.parameters
    ]
    values: dict[str, Value] = {}
    for name, parameter in template.parameters.items():
        try:
            values[name] = parameter.taken(given.get(name, parameter.default))
        except (ValueError, InvalidError) as error:
            problems.append(Problem(name, f"{name} {given.get(name)!r}: {error}"))
    if problems:
        raise InvalidError("\n".join(problem.message for problem in problems), problems)
    return values


def render(template: Template, definition_id: str, values: Mapping[str, Value]) -> tuple[str, list[Rule]]:
    """Return the text of a file of rules, and the rules in it; `definition_id` begins their ids.

    Raises:
        ConfigurationError: the rules are not valid with these values.
    """
    check_id(definition_id, "the name")
    named: dict[str, Value] = {**values, "id": definition_id}

    def put(match: re.Match[str]) -> str:
        return _shown(_calculated(ast.parse(match[1].strip(), mode="eval").body, named))

    text = _PLACE.sub(put, template.template)
    document = parse_yaml(text, definition_id)
    rules, problems = [], list(document.problems)
    for index, item in enumerate(document.data["rules"]):
        rule, found = examined(Rule, item, lambda path, index=index: document.unsaid(("rules", index, *path)))  # type: ignore[misc]
        problems += found
        rules += [rule] if rule is not None else []
    if problems:
        raise ConfigurationError(problems)
    return text, rules


def _calculated(node: ast.expr, values: Mapping[str, Value]) -> Value:
    match node:
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand, values)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
            return _OPERATIONS[type(sign)](_number(left, values), _number(right, values))
    raise InvalidError(f"${{{ast.unparse(node)}}} is no parameter, and nothing that can be calculated of them")


def _number(node: ast.expr, values: Mapping[str, Value]) -> float:
    found = _calculated(node, values)
    if isinstance(found, str):
        raise InvalidError(f"{ast.unparse(node)} is no number")
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"
