//! Ends the agent with its parent, however the parent ends.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, getppid, pidfd_open};
use tokio::sync::oneshot;

/// A watch on the parent process. Unlike a parent-death signal it follows the
/// process, not the thread that started us; unlike a pipe it cannot be held
/// open by the parent's other children.
#[derive(Debug)]
pub(super) struct Lifeline {
    parent: OwnedFd,
}

impl Lifeline {
    /// Takes hold of the parent.
    ///
    /// # Errors
    /// When the parent is gone already, or cannot be watched.
    pub(super) fn to_parent() -> io::Result<Self> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "it is gone already");
        let parent = getppid().ok_or_else(gone)?;
        let watched = pidfd_open(parent, PidfdFlags::empty())?;
        // Had the parent ended before it was opened, the number could be
        // somebody else's by now.
        if getppid() != Some(parent) {
            return Err(gone());
        }
        Ok(Self { parent: watched })
    }

    /// Resolves when the parent has ended. A thread of its own waits: it costs
    /// nothing, and works however busy the runtime is.
    pub(super) async fn ended(self) -> io::Result<()> {
        let (told, ended) = oneshot::channel();
        std::thread::Builder::new().name("clutch-lifeline".to_owned()).spawn(move || {
            let mut parent = [PollFd::new(&self.parent, PollFlags::IN)];
            let result = rustix::io::retry_on_intr(|| poll(&mut parent, None));
            // The agent may be ending for another reason.
            told.send(result).ok();
        })?;
        ended.await.map_err(io::Error::other)?.map_err(io::Error::from)?;
        Ok(())
    }
}
