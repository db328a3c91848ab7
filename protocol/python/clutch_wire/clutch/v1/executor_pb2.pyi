from clutch_wire.clutch.v1 import blob_pb2 as _blob_pb2
from clutch_wire.clutch.v1 import failure_pb2 as _failure_pb2
from clutch_wire.clutch.v1 import outcome_pb2 as _outcome_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OutputStream(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_STREAM_UNSPECIFIED: _ClassVar[OutputStream]
    OUTPUT_STREAM_STDOUT: _ClassVar[OutputStream]
    OUTPUT_STREAM_STDERR: _ClassVar[OutputStream]

class Mechanism(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MECHANISM_UNSPECIFIED: _ClassVar[Mechanism]
    MECHANISM_CGROUP_V2: _ClassVar[Mechanism]
    MECHANISM_CGROUP_V1: _ClassVar[Mechanism]
    MECHANISM_SAMPLING: _ClassVar[Mechanism]
    MECHANISM_AFFINITY: _ClassVar[Mechanism]
OUTPUT_STREAM_UNSPECIFIED: OutputStream
OUTPUT_STREAM_STDOUT: OutputStream
OUTPUT_STREAM_STDERR: OutputStream
MECHANISM_UNSPECIFIED: Mechanism
MECHANISM_CGROUP_V2: Mechanism
MECHANISM_CGROUP_V1: Mechanism
MECHANISM_SAMPLING: Mechanism
MECHANISM_AFFINITY: Mechanism

class ProtocolVersion(_message.Message):
    __slots__ = ("major", "minor")
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    major: int
    minor: int
    def __init__(self, major: _Optional[int] = ..., minor: _Optional[int] = ...) -> None: ...

class Environment(_message.Message):
    __slots__ = ("python_version", "implementation", "executable", "cloudpickle_version", "joblib_version", "packages")
    class PackagesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMPLEMENTATION_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    CLOUDPICKLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    JOBLIB_VERSION_FIELD_NUMBER: _ClassVar[int]
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    python_version: str
    implementation: str
    executable: str
    cloudpickle_version: str
    joblib_version: str
    packages: _containers.ScalarMap[str, str]
    def __init__(self, python_version: _Optional[str] = ..., implementation: _Optional[str] = ..., executable: _Optional[str] = ..., cloudpickle_version: _Optional[str] = ..., joblib_version: _Optional[str] = ..., packages: _Optional[_Mapping[str, str]] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("protocol", "client_version", "environment", "python", "name", "silence_seconds", "weight", "max_running")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SILENCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    protocol: ProtocolVersion
    client_version: str
    environment: Environment
    python: str
    name: str
    silence_seconds: float
    weight: float
    max_running: int
    def __init__(self, protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., client_version: _Optional[str] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ..., python: _Optional[str] = ..., name: _Optional[str] = ..., silence_seconds: _Optional[float] = ..., weight: _Optional[float] = ..., max_running: _Optional[int] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("opened", "refusal")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    opened: SessionOpened
    refusal: Refusal
    def __init__(self, opened: _Optional[_Union[SessionOpened, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class SessionOpened(_message.Message):
    __slots__ = ("session_id", "slots", "environment", "protocol", "agent_version", "host", "max_batch_bytes", "max_open_batches", "max_session_bytes", "silence_seconds")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_OPEN_BATCHES_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_BYTES_FIELD_NUMBER: _ClassVar[int]
    SILENCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    slots: int
    environment: Environment
    protocol: ProtocolVersion
    agent_version: str
    host: str
    max_batch_bytes: int
    max_open_batches: int
    max_session_bytes: int
    silence_seconds: float
    def __init__(self, session_id: _Optional[str] = ..., slots: _Optional[int] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ..., protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., agent_version: _Optional[str] = ..., host: _Optional[str] = ..., max_batch_bytes: _Optional[int] = ..., max_open_batches: _Optional[int] = ..., max_session_bytes: _Optional[int] = ..., silence_seconds: _Optional[float] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("kind", "message", "advice", "available", "fault")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    kind: _failure_pb2.FailureKind
    message: str
    advice: str
    available: _containers.RepeatedCompositeFieldContainer[Environment]
    fault: _failure_pb2.Fault
    def __init__(self, kind: _Optional[_Union[_failure_pb2.FailureKind, str]] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ..., available: _Optional[_Iterable[_Union[Environment, _Mapping]]] = ..., fault: _Optional[_Union[_failure_pb2.Fault, str]] = ...) -> None: ...

class ClientEnvelope(_message.Message):
    __slots__ = ("session_id", "frames", "resume", "acknowledged")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    frames: _containers.RepeatedCompositeFieldContainer[ClientFrame]
    resume: Resume
    acknowledged: int
    def __init__(self, session_id: _Optional[str] = ..., frames: _Optional[_Iterable[_Union[ClientFrame, _Mapping]]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., acknowledged: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("received",)
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    received: int
    def __init__(self, received: _Optional[int] = ...) -> None: ...

class ClientFrame(_message.Message):
    __slots__ = ("define_profile", "open_call", "submit_batch", "payload_part", "close_call", "offer_blob", "blob_part", "release_blobs")
    DEFINE_PROFILE_FIELD_NUMBER: _ClassVar[int]
    OPEN_CALL_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_BATCH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_PART_FIELD_NUMBER: _ClassVar[int]
    CLOSE_CALL_FIELD_NUMBER: _ClassVar[int]
    OFFER_BLOB_FIELD_NUMBER: _ClassVar[int]
    BLOB_PART_FIELD_NUMBER: _ClassVar[int]
    RELEASE_BLOBS_FIELD_NUMBER: _ClassVar[int]
    define_profile: DefineProfile
    open_call: OpenCall
    submit_batch: SubmitBatch
    payload_part: PayloadPart
    close_call: CloseCall
    offer_blob: _blob_pb2.OfferBlob
    blob_part: _blob_pb2.BlobPart
    release_blobs: _blob_pb2.ReleaseBlobs
    def __init__(self, define_profile: _Optional[_Union[DefineProfile, _Mapping]] = ..., open_call: _Optional[_Union[OpenCall, _Mapping]] = ..., submit_batch: _Optional[_Union[SubmitBatch, _Mapping]] = ..., payload_part: _Optional[_Union[PayloadPart, _Mapping]] = ..., close_call: _Optional[_Union[CloseCall, _Mapping]] = ..., offer_blob: _Optional[_Union[_blob_pb2.OfferBlob, _Mapping]] = ..., blob_part: _Optional[_Union[_blob_pb2.BlobPart, _Mapping]] = ..., release_blobs: _Optional[_Union[_blob_pb2.ReleaseBlobs, _Mapping]] = ...) -> None: ...

class DefineProfile(_message.Message):
    __slots__ = ("profile_id", "variables", "workers", "setup", "limits", "code")
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    profile_id: int
    variables: _containers.ScalarMap[str, str]
    workers: int
    setup: bytes
    limits: Limits
    code: _containers.RepeatedCompositeFieldContainer[CodeArchive]
    def __init__(self, profile_id: _Optional[int] = ..., variables: _Optional[_Mapping[str, str]] = ..., workers: _Optional[int] = ..., setup: _Optional[bytes] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., code: _Optional[_Iterable[_Union[CodeArchive, _Mapping]]] = ...) -> None: ...

class CodeArchive(_message.Message):
    __slots__ = ("blob_id", "digest", "working_directory")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    digest: bytes
    working_directory: bool
    def __init__(self, blob_id: _Optional[int] = ..., digest: _Optional[bytes] = ..., working_directory: bool = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("memory_bytes", "cpus", "processes", "open_files", "scratch_bytes", "soft_memory")
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_FIELD_NUMBER: _ClassVar[int]
    SCRATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    SOFT_MEMORY_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    cpus: float
    processes: int
    open_files: int
    scratch_bytes: int
    soft_memory: bool
    def __init__(self, memory_bytes: _Optional[int] = ..., cpus: _Optional[float] = ..., processes: _Optional[int] = ..., open_files: _Optional[int] = ..., scratch_bytes: _Optional[int] = ..., soft_memory: bool = ...) -> None: ...

class OpenCall(_message.Message):
    __slots__ = ("call_id", "profile_id", "max_running", "nesting_level", "task_timeout_seconds", "task_cpu_seconds", "retries")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    NESTING_LEVEL_FIELD_NUMBER: _ClassVar[int]
    TASK_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TASK_CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    profile_id: int
    max_running: int
    nesting_level: int
    task_timeout_seconds: float
    task_cpu_seconds: float
    retries: int
    def __init__(self, call_id: _Optional[int] = ..., profile_id: _Optional[int] = ..., max_running: _Optional[int] = ..., nesting_level: _Optional[int] = ..., task_timeout_seconds: _Optional[float] = ..., task_cpu_seconds: _Optional[float] = ..., retries: _Optional[int] = ...) -> None: ...

class SubmitBatch(_message.Message):
    __slots__ = ("batch_id", "call_id", "tasks", "payload", "payload_bytes", "buffers", "shared")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    call_id: int
    tasks: int
    payload: bytes
    payload_bytes: int
    buffers: _containers.RepeatedCompositeFieldContainer[_blob_pb2.BlobUse]
    shared: _containers.RepeatedCompositeFieldContainer[_blob_pb2.SharedObject]
    def __init__(self, batch_id: _Optional[int] = ..., call_id: _Optional[int] = ..., tasks: _Optional[int] = ..., payload: _Optional[bytes] = ..., payload_bytes: _Optional[int] = ..., buffers: _Optional[_Iterable[_Union[_blob_pb2.BlobUse, _Mapping]]] = ..., shared: _Optional[_Iterable[_Union[_blob_pb2.SharedObject, _Mapping]]] = ...) -> None: ...

class PayloadPart(_message.Message):
    __slots__ = ("batch_id", "data")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    data: bytes
    def __init__(self, batch_id: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class CloseCall(_message.Message):
    __slots__ = ("call_id",)
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    def __init__(self, call_id: _Optional[int] = ...) -> None: ...

class AgentEnvelope(_message.Message):
    __slots__ = ("frames", "resumed", "acknowledged")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[AgentFrame]
    resumed: Resumed
    acknowledged: int
    def __init__(self, frames: _Optional[_Iterable[_Union[AgentFrame, _Mapping]]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., acknowledged: _Optional[int] = ...) -> None: ...

class Resumed(_message.Message):
    __slots__ = ("received",)
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    received: int
    def __init__(self, received: _Optional[int] = ...) -> None: ...

class AgentFrame(_message.Message):
    __slots__ = ("batch_ended", "payload_part", "output", "capacity", "blob_state")
    BATCH_ENDED_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_PART_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    BLOB_STATE_FIELD_NUMBER: _ClassVar[int]
    batch_ended: _outcome_pb2.BatchEnded
    payload_part: PayloadPart
    output: Output
    capacity: Capacity
    blob_state: _blob_pb2.BlobState
    def __init__(self, batch_ended: _Optional[_Union[_outcome_pb2.BatchEnded, _Mapping]] = ..., payload_part: _Optional[_Union[PayloadPart, _Mapping]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., blob_state: _Optional[_Union[_blob_pb2.BlobState, _Mapping]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("pid", "stream", "data")
    PID_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    pid: int
    stream: OutputStream
    data: bytes
    def __init__(self, pid: _Optional[int] = ..., stream: _Optional[_Union[OutputStream, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("slots",)
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    def __init__(self, slots: _Optional[int] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("open_batches",)
    OPEN_BATCHES_FIELD_NUMBER: _ClassVar[int]
    open_batches: int
    def __init__(self, open_batches: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("protocol", "agent_version", "pid", "host", "slots", "environments", "sessions", "workers", "draining", "blobs", "enforcement")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    protocol: ProtocolVersion
    agent_version: str
    pid: int
    host: str
    slots: int
    environments: _containers.RepeatedCompositeFieldContainer[EnvironmentStatus]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionStatus]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    draining: bool
    blobs: BlobStatus
    enforcement: Enforcement
    def __init__(self, protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., agent_version: _Optional[str] = ..., pid: _Optional[int] = ..., host: _Optional[str] = ..., slots: _Optional[int] = ..., environments: _Optional[_Iterable[_Union[EnvironmentStatus, _Mapping]]] = ..., sessions: _Optional[_Iterable[_Union[SessionStatus, _Mapping]]] = ..., workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., draining: bool = ..., blobs: _Optional[_Union[BlobStatus, _Mapping]] = ..., enforcement: _Optional[_Union[Enforcement, _Mapping]] = ...) -> None: ...

class Enforcement(_message.Message):
    __slots__ = ("memory", "cpus", "processes", "kill", "cannot", "memory_ceiling_bytes")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    CANNOT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_CEILING_BYTES_FIELD_NUMBER: _ClassVar[int]
    memory: Mechanism
    cpus: Mechanism
    processes: Mechanism
    kill: Mechanism
    cannot: _containers.RepeatedScalarFieldContainer[str]
    memory_ceiling_bytes: int
    def __init__(self, memory: _Optional[_Union[Mechanism, str]] = ..., cpus: _Optional[_Union[Mechanism, str]] = ..., processes: _Optional[_Union[Mechanism, str]] = ..., kill: _Optional[_Union[Mechanism, str]] = ..., cannot: _Optional[_Iterable[str]] = ..., memory_ceiling_bytes: _Optional[int] = ...) -> None: ...

class BlobStatus(_message.Message):
    __slots__ = ("count", "cached", "memory_bytes", "memory_limit_bytes", "spilled_bytes", "spill_limit_bytes")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPILLED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPILL_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    count: int
    cached: int
    memory_bytes: int
    memory_limit_bytes: int
    spilled_bytes: int
    spill_limit_bytes: int
    def __init__(self, count: _Optional[int] = ..., cached: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., spilled_bytes: _Optional[int] = ..., spill_limit_bytes: _Optional[int] = ...) -> None: ...

class EnvironmentStatus(_message.Message):
    __slots__ = ("environment", "zygote_pid", "warm_modules", "problem")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    ZYGOTE_PID_FIELD_NUMBER: _ClassVar[int]
    WARM_MODULES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    environment: Environment
    zygote_pid: int
    warm_modules: _containers.RepeatedScalarFieldContainer[str]
    problem: str
    def __init__(self, environment: _Optional[_Union[Environment, _Mapping]] = ..., zygote_pid: _Optional[int] = ..., warm_modules: _Optional[_Iterable[str]] = ..., problem: _Optional[str] = ...) -> None: ...

class SessionStatus(_message.Message):
    __slots__ = ("name", "waiting", "running", "attached", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    waiting: int
    running: int
    attached: bool
    weight: float
    def __init__(self, name: _Optional[str] = ..., waiting: _Optional[int] = ..., running: _Optional[int] = ..., attached: bool = ..., weight: _Optional[float] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("pid", "executable", "busy", "batches")
    PID_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    pid: int
    executable: str
    busy: bool
    batches: int
    def __init__(self, pid: _Optional[int] = ..., executable: _Optional[str] = ..., busy: bool = ..., batches: _Optional[int] = ...) -> None: ...
