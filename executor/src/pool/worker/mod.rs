//! One worker process: a task that owns its line, its pipes and its end.

mod code;
mod dying;
mod enclosed;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod life;
mod mapping;
mod message;
mod outcome;
mod output;
mod process;
mod reader;
mod start;

pub(crate) use message::{
    Assignment, Attempt, BatchOutcome, Note, Order, Output, OutputStream, Saved, Timings, Usage,
    Value, WorkerCode, WorkerEvent, WorkerHandle, WorkerSetup, WorkerStart,
};
pub(crate) use start::start_worker;
