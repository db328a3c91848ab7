//! The directory of a session: what its driver brought along, unpacked.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::Enforcer;
use super::scratch::Scratch;
use crate::identifiers::SessionId;

/// A directory that is made when it is first asked for, and removed when this
/// is dropped: once neither the session nor a worker of it is left.
pub(crate) struct SessionFiles {
    enforcer: Enforcer,
    session: SessionId,
    made: Mutex<Option<Scratch>>,
}

impl SessionFiles {
    pub(super) fn new(enforcer: Enforcer, session: SessionId) -> Self {
        Self { enforcer, session, made: Mutex::default() }
    }

    /// Where it is.
    ///
    /// # Errors
    /// When it cannot be made, or the agent ends.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scratch) = &*made {
            return Ok(scratch.path());
        }
        let scratch = self.enforcer.session_directory(self.session)?;
        Ok(made.insert(scratch).path())
    }
}

impl Drop for SessionFiles {
    fn drop(&mut self) {
        let made = self.made.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(scratch) = made else { return };
        // Takes as long as it has files, which nobody here may wait for.
        // Without a thread it is done here, by the drop of what it had.
        let thread = std::thread::Builder::new().name("clutch-finish".to_owned());
        if let Err(error) = thread.spawn(move || drop(scratch)) {
            tracing::debug!(%error, "no thread to remove a session's files");
        }
    }
}

impl fmt::Debug for SessionFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionFiles")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
