"""Actions of rules as they come, told apart by their type."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from libs import expression
from libs.errors import InvalidError
from libs.validation import Id, Model, Ref
from services.rulesrv.sources import ALARM

Level = Literal["Critical", "Major", "Minor", "Warning", "Info"]
Channel = Annotated[int, Field(ge=1, le=999_999_999)]
TagName = Annotated[str, Field(min_length=1, max_length=64)]


class AlarmParams(Model):
    """The alarm a rule raises; it returns when the rule's condition ends. Its texts may show values."""

    title: str = Field(min_length=1, max_length=256)
    level: Level = "Warning"
    description: str | None = Field(None, max_length=2048)
    source: Ref | None = Field(None, description="without it the rule's first point")
    ack_required: bool | None = None


def _alarm(text: str) -> str:
    if not ALARM.fullmatch(text):
        raise ValueError("must be alarm:<definition> or rule:<rule>#<number of its action>")
    return text


class ResolveParams(Model):
    """The alarm to resolve; one whose condition stands is not."""

    alarm: Annotated[str, AfterValidator(_alarm)]


class Commanded(Model):
    """What a command says, whatever it names its point by: a value, or an expression over points."""

    value: float | None = None
    expression: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="calculated when the rule fires; every point in it must be good",
    )
    program: list[list[Any]] | None = Field(None, description="made of the expression by the service")
    ttl_ms: int | None = Field(None, ge=1, le=600_000)
    priority: int | None = Field(None, ge=0, le=100)
    verify: bool | None = None
    authority: Literal["protection", "rule", "schedule"] | None = None
    lease_ms: int | None = Field(None, ge=0, le=86_400_000, description="the command holds the point so long")
    fallback: float | None = Field(None, description="written when the hold ends")

    @model_validator(mode="before")
    @classmethod
    def _programmed(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        text = document.get("expression")
        if (document.get("value") is None) == (text is None):
            raise ValueError("give value, or expression")
        if not isinstance(text, str):
            return document
        try:
            return document | {"program": expression.parse(text)}
        except InvalidError as error:
            raise ValueError(f"expression: {error}") from None


def _commanded(text: str) -> str:
    if text.split(":")[2] in {"T", "S"}:
        raise ValueError(f"{text} is a value that is read; commands go to A and C")
    return text


class CommandParams(Commanded):
    """The command a rule sends: to a `target`, or to channel, type and point."""

    target: Annotated[Ref, AfterValidator(_commanded)] | None = None
    channel: Channel | None = None
    type: Literal["A", "C"] | None = None
    point: Channel | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        parts = [self.channel, self.type, self.point]
        if self.target is None and None in parts:
            raise ValueError("give target, or channel, type and point")
        if self.target is not None and parts != [None, None, None]:
            raise ValueError("give target, or channel, type and point, not both")
        return self


class ModelActionParams(Commanded):
    """The action of a model to set, as `set_power` of `battery1`."""

    model: Id
    action: Id


class PublishParams(Model):
    """What a rule publishes on rulesrv:published:{topic}. The message may show values."""

    topic: Id
    message: str | None = Field(None, max_length=1024)
    payload: Any = None


class NotifyParams(Model):
    """A message to people, by the routes of notification that take its level and tags. It may show values."""

    message: str = Field(min_length=1, max_length=1024)
    level: Level = "Warning"
    tags: list[TagName] | None = Field(None, max_length=16)


class SwitchParams(Model):
    """The rule, or the group of rules, to switch."""

    rule: Id | None = None
    group: Id | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.rule is None) == (self.group is None):
            raise ValueError("give rule or group, one of them")
        return self


class CreateAlarm(Model):
    """Raise an alarm."""

    type: Literal["create_alarm"]
    params: AlarmParams


class ResolveAlarm(Model):
    """Resolve an alarm."""

    type: Literal["resolve_alarm"]
    params: ResolveParams


class Command(Model):
    """Command a device. Every input must be good, unless the rule says `on_bad: last`."""

    type: Literal["command"]
    params: CommandParams


class ModelAction(Model):
    """Set a model's action: a command to the point it is mapped to."""

    type: Literal["model_action"]
    params: ModelActionParams


class Publish(Model):
    """Publish a message."""

    type: Literal["publish"]
    params: PublishParams


class Notify(Model):
    """Tell people."""

    type: Literal["notify"]
    params: NotifyParams


class EnableRule(Model):
    """Switch a rule, or a group, on."""

    type: Literal["enable_rule"]
    params: SwitchParams


class DisableRule(Model):
    """Switch a rule, or a group, off."""

    type: Literal["disable_rule"]
    params: SwitchParams


def _type(action: Any) -> str:
    """Return the tag of an action; tags in angle brackets are left out of paths."""
    kind = action.get("type") if isinstance(action, dict) else getattr(action, "type", None)
    return f"<{kind}>"


Action = Annotated[
    Annotated[CreateAlarm, Tag("<create_alarm>")]
    | Annotated[ResolveAlarm, Tag("<resolve_alarm>")]
    | Annotated[Command, Tag("<command>")]
    | Annotated[ModelAction, Tag("<model_action>")]
    | Annotated[Publish, Tag("<publish>")]
    | Annotated[Notify, Tag("<notify>")]
    | Annotated[EnableRule, Tag("<enable_rule>")]
    | Annotated[DisableRule, Tag("<disable_rule>")],
    Discriminator(_type),
]
