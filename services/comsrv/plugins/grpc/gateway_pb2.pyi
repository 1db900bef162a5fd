from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("name", "version", "points")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    points: _containers.RepeatedCompositeFieldContainer[PointDescription]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., points: _Optional[_Iterable[_Union[PointDescription, _Mapping]]] = ...) -> None: ...

class PointDescription(_message.Message):
    __slots__ = ("device", "name", "type", "writable", "unit", "description")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NUMBER: _ClassVar[PointDescription.Type]
        STATE: _ClassVar[PointDescription.Type]
        TEXT: _ClassVar[PointDescription.Type]
    NUMBER: PointDescription.Type
    STATE: PointDescription.Type
    TEXT: PointDescription.Type
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    device: str
    name: str
    type: PointDescription.Type
    writable: bool
    unit: str
    description: str
    def __init__(self, device: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[_Union[PointDescription.Type, str]] = ..., writable: _Optional[bool] = ..., unit: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("device", "numbers", "texts")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    device: str
    numbers: _containers.RepeatedScalarFieldContainer[str]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, device: _Optional[str] = ..., numbers: _Optional[_Iterable[str]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadReply(_message.Message):
    __slots__ = ("numbers", "texts", "quality", "at_ms")
    class QualityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    texts: _containers.RepeatedScalarFieldContainer[str]
    quality: _containers.ScalarMap[int, str]
    at_ms: int
    def __init__(self, numbers: _Optional[_Iterable[float]] = ..., texts: _Optional[_Iterable[str]] = ..., quality: _Optional[_Mapping[int, str]] = ..., at_ms: _Optional[int] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("id", "device", "name", "number", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    device: str
    name: str
    number: float
    text: str
    def __init__(self, id: _Optional[str] = ..., device: _Optional[str] = ..., name: _Optional[str] = ..., number: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...

class WriteReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("points", "cursor")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[StreamPoint]
    cursor: str
    def __init__(self, points: _Optional[_Iterable[_Union[StreamPoint, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class StreamPoint(_message.Message):
    __slots__ = ("device", "name")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    device: str
    name: str
    def __init__(self, device: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Events(_message.Message):
    __slots__ = ("events", "cursor")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    cursor: str
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("point", "at_ms", "number", "quality")
    POINT_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    point: int
    at_ms: int
    number: float
    quality: str
    def __init__(self, point: _Optional[int] = ..., at_ms: _Optional[int] = ..., number: _Optional[float] = ..., quality: _Optional[str] = ...) -> None: ...
