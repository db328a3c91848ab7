//! One failure with what is known about it.

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
        }
    }
}
