from clutch_wire.clutch.v1 import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BlobAccess(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOB_ACCESS_UNSPECIFIED: _ClassVar[BlobAccess]
    BLOB_ACCESS_READ: _ClassVar[BlobAccess]
    BLOB_ACCESS_COPY: _ClassVar[BlobAccess]
    BLOB_ACCESS_WRITE: _ClassVar[BlobAccess]
BLOB_ACCESS_UNSPECIFIED: BlobAccess
BLOB_ACCESS_READ: BlobAccess
BLOB_ACCESS_COPY: BlobAccess
BLOB_ACCESS_WRITE: BlobAccess

class BlobUse(_message.Message):
    __slots__ = ("blob_id", "access")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    access: BlobAccess
    def __init__(self, blob_id: _Optional[int] = ..., access: _Optional[_Union[BlobAccess, str]] = ...) -> None: ...

class SharedObject(_message.Message):
    __slots__ = ("pickle_blob_id", "buffers")
    PICKLE_BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    pickle_blob_id: int
    buffers: _containers.RepeatedCompositeFieldContainer[BlobUse]
    def __init__(self, pickle_blob_id: _Optional[int] = ..., buffers: _Optional[_Iterable[_Union[BlobUse, _Mapping]]] = ...) -> None: ...

class OfferBlob(_message.Message):
    __slots__ = ("blob_id", "bytes", "digest", "writable", "sources")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    bytes: int
    digest: bytes
    writable: bool
    sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, blob_id: _Optional[int] = ..., bytes: _Optional[int] = ..., digest: _Optional[bytes] = ..., writable: bool = ..., sources: _Optional[_Iterable[str]] = ...) -> None: ...

class BlobPart(_message.Message):
    __slots__ = ("blob_id", "data")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    data: bytes
    def __init__(self, blob_id: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ReleaseBlobs(_message.Message):
    __slots__ = ("blob_ids",)
    BLOB_IDS_FIELD_NUMBER: _ClassVar[int]
    blob_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, blob_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class BlobState(_message.Message):
    __slots__ = ("blob_id", "present", "missing", "refused")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    present: BlobPresent
    missing: BlobMissing
    refused: _failure_pb2.Failure
    def __init__(self, blob_id: _Optional[int] = ..., present: _Optional[_Union[BlobPresent, _Mapping]] = ..., missing: _Optional[_Union[BlobMissing, _Mapping]] = ..., refused: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class FetchContentRequest(_message.Message):
    __slots__ = ("digest", "bytes", "offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    bytes: int
    offset: int
    def __init__(self, digest: _Optional[bytes] = ..., bytes: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class ContentPart(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class BlobPresent(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BlobMissing(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DataRequest(_message.Message):
    __slots__ = ("join", "allocate", "commit", "fetch", "same_file")
    JOIN_FIELD_NUMBER: _ClassVar[int]
    ALLOCATE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    SAME_FILE_FIELD_NUMBER: _ClassVar[int]
    join: JoinSession
    allocate: AllocateBlob
    commit: CommitBlob
    fetch: FetchBlob
    same_file: SameFile
    def __init__(self, join: _Optional[_Union[JoinSession, _Mapping]] = ..., allocate: _Optional[_Union[AllocateBlob, _Mapping]] = ..., commit: _Optional[_Union[CommitBlob, _Mapping]] = ..., fetch: _Optional[_Union[FetchBlob, _Mapping]] = ..., same_file: _Optional[_Union[SameFile, _Mapping]] = ...) -> None: ...

class DataResponse(_message.Message):
    __slots__ = ("done", "descriptor", "file_is_same", "refused")
    DONE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    FILE_IS_SAME_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    done: Done
    descriptor: DescriptorSent
    file_is_same: FileIsSame
    refused: _failure_pb2.Failure
    def __init__(self, done: _Optional[_Union[Done, _Mapping]] = ..., descriptor: _Optional[_Union[DescriptorSent, _Mapping]] = ..., file_is_same: _Optional[_Union[FileIsSame, _Mapping]] = ..., refused: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class JoinSession(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class AllocateBlob(_message.Message):
    __slots__ = ("blob_id", "bytes", "writable")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    bytes: int
    writable: bool
    def __init__(self, blob_id: _Optional[int] = ..., bytes: _Optional[int] = ..., writable: bool = ...) -> None: ...

class CommitBlob(_message.Message):
    __slots__ = ("blob_id",)
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    def __init__(self, blob_id: _Optional[int] = ...) -> None: ...

class FetchBlob(_message.Message):
    __slots__ = ("blob_id",)
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    blob_id: int
    def __init__(self, blob_id: _Optional[int] = ...) -> None: ...

class SameFile(_message.Message):
    __slots__ = ("path", "device", "inode", "bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    device: int
    inode: int
    bytes: int
    def __init__(self, path: _Optional[str] = ..., device: _Optional[int] = ..., inode: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescriptorSent(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FileIsSame(_message.Message):
    __slots__ = ("same",)
    SAME_FIELD_NUMBER: _ClassVar[int]
    same: bool
    def __init__(self, same: bool = ...) -> None: ...
