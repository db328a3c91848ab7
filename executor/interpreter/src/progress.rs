//! The progress page, as the worker maps it.

use std::fs::File;
use std::os::fd::OwnedFd;

use clutch_worker_link::{PROGRESS_BYTES, Progress};
use memmap2::{MmapOptions, MmapRaw};

/// The mapped page.
#[derive(Debug)]
pub(crate) struct ProgressPage {
    map: MmapRaw,
}

impl ProgressPage {
    /// Maps the page that the agent made.
    pub(crate) fn map(page: OwnedFd) -> std::io::Result<Self> {
        let page = File::from(page);
        // A page that is not there would be a SIGBUS at the first task.
        if page.metadata()?.len() < PROGRESS_BYTES as u64 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { map: MmapOptions::new().len(PROGRESS_BYTES).map_raw(&page)? })
    }
}

impl std::ops::Deref for ProgressPage {
    type Target = Progress;

    #[expect(unsafe_code, reason = "a view of shared memory")]
    #[expect(clippy::cast_ptr_alignment, reason = "a map begins on a page")]
    fn deref(&self) -> &Progress {
        // SAFETY: the map is page-aligned, as long as the page, lives as long
        // as `self`, and `Progress` is a few atomics: any bytes are valid, and
        // any other process may write them at any time.
        unsafe { &*self.map.as_ptr().cast::<Progress>() }
    }
}
