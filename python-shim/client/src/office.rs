//! Where endings and output wait until a thread of the driver sees to them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::courier::{Couriers, Errand};
use crate::output::Outputs;
use crate::runtime;

/// One for all sessions of a process, so that its threads do not grow with them, and
/// no ending goes with the session that brought it.
pub struct Office<T> {
    pub(crate) couriers: Arc<Couriers<T>>,
    pub(crate) outputs: Arc<Outputs>,
    sources: AtomicU64,
}

impl<T: Send + 'static> Office<T> {
    /// An office with nobody in it.
    ///
    /// # Errors
    /// When there can be no more threads or descriptors.
    pub fn open() -> io::Result<Self> {
        let couriers = Arc::new(Couriers::new(runtime::network()?));
        Ok(Self { couriers, outputs: Arc::default(), sources: AtomicU64::new(0) })
    }

    /// Waits for a call whose endings nobody awaits; `None` once it is closed.
    pub fn next_errand(&self) -> Option<Errand<T>> {
        self.couriers.next()
    }

    /// What tasks printed.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Lets its threads go once nothing is left to do.
    pub fn close(&self) {
        self.couriers.close();
        self.outputs.close();
    }

    /// Names one more session that brings output.
    pub(crate) fn source(&self) -> u64 {
        self.sources.fetch_add(1, Ordering::Relaxed)
    }
}

impl<T> fmt::Debug for Office<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Office").finish_non_exhaustive()
    }
}
