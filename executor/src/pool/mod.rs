//! Interpreters seen from outside: environments, zygotes and workers; how they
//! start, talk, end, and what a death means.

mod deadline;
mod death;
mod environment;
mod exit;
mod keeper;
mod launch;
mod learning;
mod oom;
mod progress;
mod reaper;
mod recycle;
mod restarts;
mod stderr_tail;
mod worker;
mod zygote;

pub(crate) use environment::{EnvironmentError, PythonEnvironment, probe};
pub(crate) use progress::ProgressPage;
pub(crate) use reaper::Reaper;
#[cfg(feature = "fuzzing")]
pub(crate) use worker::fuzzing;
pub(crate) use worker::{
    Assignment, Attempt, BatchOutcome, Note, Order, Output, OutputStream, Saved, Timings, Usage,
    Value, WorkerCode, WorkerEvent, WorkerHandle, WorkerSetup, WorkerStart, start_worker,
};
pub(crate) use zygote::{Zygote, ZygoteOptions, ZygoteState};
