//! One worker process: a task that owns its line, its pipes and its end.

mod life;
mod mapping;
mod message;
mod outcome;
mod output;
mod process;
mod reader;
mod start;

pub(crate) use message::{
    Assignment, BatchOutcome, Order, Output, OutputStream, Timings, Usage, Value, WorkerEvent,
    WorkerHandle, WorkerSetup, WorkerStart,
};
pub(crate) use start::start_worker;
