//! The private line between an agent and the interpreters it owns.
//!
//! Two lines use it, both Unix stream sockets made by the agent:
//! the *control line* to a zygote ([`ToZygote`], [`FromZygote`]; descriptors
//! travel along), and the *task line* to each worker ([`ToWorker`],
//! [`FromWorker`]). A frame is a fixed prefix, a header (one message, encoded
//! by postcard) and a payload of raw bytes that neither side copies to parse.
//!
//! The agent treats whatever a worker sends as hostile: lengths are checked
//! before anything is allocated.

mod descriptors;
mod frame;
mod message;
mod progress;
mod thread_variables;

#[cfg(feature = "tokio")]
mod asynchronous;

#[cfg(feature = "tokio")]
pub use asynchronous::{send_bytes_with_descriptors, write_frame, write_with_descriptors};
pub use descriptors::{
    MAX_DESCRIPTORS, receive_once, receive_with_descriptors, send_with_descriptors,
};
pub use frame::{
    Frame, LinkError, MAX_HEADER_BYTES, PREFIX_BYTES, Prefix, decode_header, encode_frame_head,
    read_frame_blocking, write_frame_blocking,
};
pub use message::{
    Access, BUFFER_ALIGNMENT, BatchReport, BufferUse, CodeArchive, DriverCode, ExceptionReport,
    FailureReport, FromWorker, FromZygote, Leftovers, MAX_IMPORTED, MAX_MODULE_NAME_BYTES,
    MappedBlob, Phase, RunBatch, SavedReport, SharedObject, ToWorker, ToZygote, ZygoteHello,
};
pub use progress::{PROGRESS_BYTES, Progress, ProgressReading};
pub use thread_variables::THREAD_VARIABLES;
