//! The agent's view of a worker's progress page.
#![expect(clippy::cast_ptr_alignment, reason = "maps are page-aligned")]
#![expect(unsafe_code, reason = "shared memory is laid under a type of atomics")]

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use clutch_worker_link::{PROGRESS_BYTES, Progress, ProgressReading};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};

#[cfg(test)]
use crate::clock::Monotonic;

/// A page that a worker writes and the agent reads.
#[derive(Debug)]
pub(crate) struct ProgressPage {
    map: MmapRaw,
}

impl ProgressPage {
    /// Makes a page, and the descriptor that the worker maps.
    ///
    /// # Errors
    /// When the operating system has no memory or descriptor left.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("clutch-progress", flags)?;
        rustix::fs::ftruncate(&file, PROGRESS_BYTES as u64)?;
        // A worker that shrank the file would turn our reads into SIGBUS.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = MmapOptions::new().len(PROGRESS_BYTES).map_raw(&file)?;
        Ok((Self { map }, file))
    }

    /// What the worker does now.
    pub(crate) fn read(&self) -> Option<ProgressReading> {
        self.page().read()
    }

    /// See [`Progress::cpu_at_start`].
    pub(crate) fn cpu_at_start(&self) -> Duration {
        Duration::from_nanos(self.page().cpu_at_start())
    }

    /// See [`Progress::offer`].
    pub(crate) fn offer(&self, claim: u64) {
        self.page().offer(claim);
    }

    /// See [`Progress::withdraw`].
    pub(crate) fn withdraw(&self, claim: u64) -> bool {
        self.page().withdraw(claim)
    }

    /// See [`Progress::is_withdrawn`].
    pub(super) fn is_withdrawn(&self, claim: u64) -> bool {
        self.page().is_withdrawn(claim)
    }

    /// Says what only a worker says: see [`Progress::task_started`].
    #[cfg(test)]
    pub(super) fn task_started(&self, task_index: u32, now: Monotonic) {
        self.page().task_started(task_index, now.nanoseconds());
    }

    fn page(&self) -> &Progress {
        let address = self.map.as_ptr();
        // SAFETY: the map is `PROGRESS_BYTES` long, page-aligned and lives as
        // long as `self`; `Progress` is made of atomics, for which every bit
        // pattern is valid, and the sealed file cannot shrink under it.
        unsafe { &*address.cast::<Progress>() }
    }
}
