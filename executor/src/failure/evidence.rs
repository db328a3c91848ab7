//! One failure with what is known about it.

use std::time::Duration;

use bytes::Bytes;

use super::Kind;

/// A failure and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// One sentence, lower-case, naming values.
    pub message: String,
    /// The task to blame, by its index in the batch.
    pub task_index: Option<u32>,
    /// Signal that ended the worker.
    pub signal: Option<i32>,
    /// Exit code of the worker or of `sys.exit`.
    pub exit_code: Option<i32>,
    /// Last bytes of the worker's standard error, as text.
    pub stderr_tail: String,
    /// The Python exception.
    pub exception: Option<Box<RemoteException>>,
    /// Which attempt at the batch this was, from 1; 0: it never reached a
    /// worker.
    pub attempt: u32,
    /// The limit that was passed.
    pub breach: Option<Breach>,
    /// Wall time of the task that failed; `None`: none ran.
    pub wall: Option<Duration>,
    /// CPU time of the worker and what it started, since the batch began;
    /// `None`: not known.
    pub cpu: Option<Duration>,
}

/// A limit that was passed. Its unit follows from the kind of failure, see
/// `failure.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breach {
    /// The limit in force.
    pub limit: u64,
    /// The most that was seen.
    pub peak: u64,
}

/// A Python exception as a worker reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteException {
    /// Pickled; empty when it could not be.
    pub pickle: Bytes,
    /// Qualified type name.
    pub type_name: String,
    /// `str()` of it.
    pub text: String,
    /// Formatted traceback.
    pub traceback: String,
}

impl Failure {
    /// A failure with nothing known but kind and message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            task_index: None,
            signal: None,
            exit_code: None,
            stderr_tail: String::new(),
            exception: None,
            attempt: 0,
            breach: None,
            wall: None,
            cpu: None,
        }
    }
}
