from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FailureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_KIND_UNSPECIFIED: _ClassVar[FailureKind]
    FAILURE_KIND_TASK_RAISED: _ClassVar[FailureKind]
    FAILURE_KIND_TASK_EXITED: _ClassVar[FailureKind]
    FAILURE_KIND_ARGUMENT_UNREADABLE: _ClassVar[FailureKind]
    FAILURE_KIND_RESULT_UNPICKLABLE: _ClassVar[FailureKind]
    FAILURE_KIND_WORKER_CRASHED: _ClassVar[FailureKind]
    FAILURE_KIND_TIME_LIMIT: _ClassVar[FailureKind]
    FAILURE_KIND_MEMORY_LIMIT: _ClassVar[FailureKind]
    FAILURE_KIND_CANCELLED: _ClassVar[FailureKind]
    FAILURE_KIND_ENVIRONMENT_MISMATCH: _ClassVar[FailureKind]
    FAILURE_KIND_PROTOCOL_MISMATCH: _ClassVar[FailureKind]
    FAILURE_KIND_AGENT_DRAINING: _ClassVar[FailureKind]
    FAILURE_KIND_WORKER_START_FAILED: _ClassVar[FailureKind]
    FAILURE_KIND_INITIALIZER_FAILED: _ClassVar[FailureKind]
    FAILURE_KIND_QUOTA_EXCEEDED: _ClassVar[FailureKind]
    FAILURE_KIND_INTERNAL: _ClassVar[FailureKind]
    FAILURE_KIND_WORKER_KILLED: _ClassVar[FailureKind]
    FAILURE_KIND_MEMORY_PRESSURE: _ClassVar[FailureKind]
    FAILURE_KIND_CPU_TIME_LIMIT: _ClassVar[FailureKind]
    FAILURE_KIND_PROCESS_LIMIT: _ClassVar[FailureKind]
    FAILURE_KIND_SCRATCH_LIMIT: _ClassVar[FailureKind]
    FAILURE_KIND_POISONOUS_BATCH: _ClassVar[FailureKind]

class Fault(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_UNSPECIFIED: _ClassVar[Fault]
    FAULT_TASK: _ClassVar[Fault]
    FAULT_DRIVER: _ClassVar[Fault]
    FAULT_AGENT: _ClassVar[Fault]
    FAULT_NOBODY: _ClassVar[Fault]
FAILURE_KIND_UNSPECIFIED: FailureKind
FAILURE_KIND_TASK_RAISED: FailureKind
FAILURE_KIND_TASK_EXITED: FailureKind
FAILURE_KIND_ARGUMENT_UNREADABLE: FailureKind
FAILURE_KIND_RESULT_UNPICKLABLE: FailureKind
FAILURE_KIND_WORKER_CRASHED: FailureKind
FAILURE_KIND_TIME_LIMIT: FailureKind
FAILURE_KIND_MEMORY_LIMIT: FailureKind
FAILURE_KIND_CANCELLED: FailureKind
FAILURE_KIND_ENVIRONMENT_MISMATCH: FailureKind
FAILURE_KIND_PROTOCOL_MISMATCH: FailureKind
FAILURE_KIND_AGENT_DRAINING: FailureKind
FAILURE_KIND_WORKER_START_FAILED: FailureKind
FAILURE_KIND_INITIALIZER_FAILED: FailureKind
FAILURE_KIND_QUOTA_EXCEEDED: FailureKind
FAILURE_KIND_INTERNAL: FailureKind
FAILURE_KIND_WORKER_KILLED: FailureKind
FAILURE_KIND_MEMORY_PRESSURE: FailureKind
FAILURE_KIND_CPU_TIME_LIMIT: FailureKind
FAILURE_KIND_PROCESS_LIMIT: FailureKind
FAILURE_KIND_SCRATCH_LIMIT: FailureKind
FAILURE_KIND_POISONOUS_BATCH: FailureKind
FAULT_UNSPECIFIED: Fault
FAULT_TASK: Fault
FAULT_DRIVER: Fault
FAULT_AGENT: Fault
FAULT_NOBODY: Fault

class Failure(_message.Message):
    __slots__ = ("kind", "fault", "message", "advice", "task_index", "signal", "exit_code", "stderr_tail", "exception", "attempt", "breach", "wall_nanoseconds", "cpu_nanoseconds")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    TASK_INDEX_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    STDERR_TAIL_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    BREACH_FIELD_NUMBER: _ClassVar[int]
    WALL_NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    CPU_NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    kind: FailureKind
    fault: Fault
    message: str
    advice: str
    task_index: int
    signal: int
    exit_code: int
    stderr_tail: str
    exception: ExceptionInfo
    attempt: int
    breach: Breach
    wall_nanoseconds: int
    cpu_nanoseconds: int
    def __init__(self, kind: _Optional[_Union[FailureKind, str]] = ..., fault: _Optional[_Union[Fault, str]] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ..., task_index: _Optional[int] = ..., signal: _Optional[int] = ..., exit_code: _Optional[int] = ..., stderr_tail: _Optional[str] = ..., exception: _Optional[_Union[ExceptionInfo, _Mapping]] = ..., attempt: _Optional[int] = ..., breach: _Optional[_Union[Breach, _Mapping]] = ..., wall_nanoseconds: _Optional[int] = ..., cpu_nanoseconds: _Optional[int] = ...) -> None: ...

class Breach(_message.Message):
    __slots__ = ("limit", "peak")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PEAK_FIELD_NUMBER: _ClassVar[int]
    limit: int
    peak: int
    def __init__(self, limit: _Optional[int] = ..., peak: _Optional[int] = ...) -> None: ...

class ExceptionInfo(_message.Message):
    __slots__ = ("pickle", "type_name", "text", "traceback")
    PICKLE_FIELD_NUMBER: _ClassVar[int]
    TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    pickle: bytes
    type_name: str
    text: str
    traceback: str
    def __init__(self, pickle: _Optional[bytes] = ..., type_name: _Optional[str] = ..., text: _Optional[str] = ..., traceback: _Optional[str] = ...) -> None: ...
