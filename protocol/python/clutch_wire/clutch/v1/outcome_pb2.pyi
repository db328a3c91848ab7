from clutch_wire.clutch.v1 import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NoteKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTE_KIND_UNSPECIFIED: _ClassVar[NoteKind]
    NOTE_KIND_CHILDREN_KILLED: _ClassVar[NoteKind]
    NOTE_KIND_THREADS_LEFT: _ClassVar[NoteKind]
    NOTE_KIND_FILES_LEFT: _ClassVar[NoteKind]
    NOTE_KIND_CHILDREN_OUT_OF_MEMORY: _ClassVar[NoteKind]
    NOTE_KIND_CPU_THROTTLED: _ClassVar[NoteKind]
    NOTE_KIND_STATE_CHANGED: _ClassVar[NoteKind]
NOTE_KIND_UNSPECIFIED: NoteKind
NOTE_KIND_CHILDREN_KILLED: NoteKind
NOTE_KIND_THREADS_LEFT: NoteKind
NOTE_KIND_FILES_LEFT: NoteKind
NOTE_KIND_CHILDREN_OUT_OF_MEMORY: NoteKind
NOTE_KIND_CPU_THROTTLED: NoteKind
NOTE_KIND_STATE_CHANGED: NoteKind

class BatchEnded(_message.Message):
    __slots__ = ("batch_id", "value", "failure", "timings", "usage", "worker_pid", "earlier_attempts", "notes")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    WORKER_PID_FIELD_NUMBER: _ClassVar[int]
    EARLIER_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    value: Value
    failure: _failure_pb2.Failure
    timings: Timings
    usage: Usage
    worker_pid: int
    earlier_attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    notes: _containers.RepeatedCompositeFieldContainer[Note]
    def __init__(self, batch_id: _Optional[int] = ..., value: _Optional[_Union[Value, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., worker_pid: _Optional[int] = ..., earlier_attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., notes: _Optional[_Iterable[_Union[Note, _Mapping]]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("kind", "message", "worker_pid", "ended_at")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WORKER_PID_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    kind: _failure_pb2.FailureKind
    message: str
    worker_pid: int
    ended_at: int
    def __init__(self, kind: _Optional[_Union[_failure_pb2.FailureKind, str]] = ..., message: _Optional[str] = ..., worker_pid: _Optional[int] = ..., ended_at: _Optional[int] = ...) -> None: ...

class Note(_message.Message):
    __slots__ = ("kind", "count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: NoteKind
    count: int
    def __init__(self, kind: _Optional[_Union[NoteKind, str]] = ..., count: _Optional[int] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("payload", "payload_bytes", "buffer_bytes", "blob_id", "saved_bytes")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUFFER_BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    SAVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    payload_bytes: int
    buffer_bytes: _containers.RepeatedScalarFieldContainer[int]
    blob_id: int
    saved_bytes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, payload: _Optional[bytes] = ..., payload_bytes: _Optional[int] = ..., buffer_bytes: _Optional[_Iterable[int]] = ..., blob_id: _Optional[int] = ..., saved_bytes: _Optional[_Iterable[int]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queued_at", "assigned_at", "received_at", "unpickled_at", "ran_at", "pickled_at", "ended_at", "task_nanoseconds")
    QUEUED_AT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_AT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    UNPICKLED_AT_FIELD_NUMBER: _ClassVar[int]
    RAN_AT_FIELD_NUMBER: _ClassVar[int]
    PICKLED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    TASK_NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    queued_at: int
    assigned_at: int
    received_at: int
    unpickled_at: int
    ran_at: int
    pickled_at: int
    ended_at: int
    task_nanoseconds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, queued_at: _Optional[int] = ..., assigned_at: _Optional[int] = ..., received_at: _Optional[int] = ..., unpickled_at: _Optional[int] = ..., ran_at: _Optional[int] = ..., pickled_at: _Optional[int] = ..., ended_at: _Optional[int] = ..., task_nanoseconds: _Optional[_Iterable[int]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("user_nanoseconds", "system_nanoseconds", "peak_memory_bytes")
    USER_NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    user_nanoseconds: int
    system_nanoseconds: int
    peak_memory_bytes: int
    def __init__(self, user_nanoseconds: _Optional[int] = ..., system_nanoseconds: _Optional[int] = ..., peak_memory_bytes: _Optional[int] = ...) -> None: ...
