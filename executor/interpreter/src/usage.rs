//! What a worker uses, cheaply: batches may take microseconds.

use std::time::{Duration, Instant};

use clutch_worker_link::BatchReport;

/// Resident memory is read from /proc no more often than this.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);

/// The worker's meter.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    at_start: Reading,
    /// When the last batch ended; `None`: much may have happened since.
    at_end: Option<Reading>,
    memory_bytes: u64,
    memory_read_at: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Reading {
    user_nanoseconds: u64,
    system_nanoseconds: u64,
    peak_bytes: u64,
}

impl Meter {
    /// A batch begins; `at_once` when the one before it has just ended, so that
    /// nothing can have been used in between.
    pub(crate) fn start(&mut self, at_once: bool) {
        let at_end = self.at_end.take().filter(|_| at_once);
        self.at_start = at_end.unwrap_or_else(Reading::take);
    }

    /// A batch was skipped, perhaps after a wait.
    pub(crate) fn skip(&mut self) {
        self.at_end = None;
    }

    /// The batch is over: enters what it used.
    pub(crate) fn finish(&mut self, report: &mut BatchReport) {
        let (begin, end) = (self.at_start, Reading::take());
        self.at_end = Some(end);
        report.user_nanoseconds = end.user_nanoseconds.saturating_sub(begin.user_nanoseconds);
        report.system_nanoseconds = end.system_nanoseconds.saturating_sub(begin.system_nanoseconds);
        report.peak_memory_bytes = end.peak_bytes;
        if self.memory_read_at.is_none_or(|at| at.elapsed() >= MEMORY_INTERVAL) {
            self.memory_bytes = anonymous_bytes().unwrap_or(self.memory_bytes);
            self.memory_read_at = Some(Instant::now());
        }
        report.memory_bytes = self.memory_bytes;
    }
}

impl Reading {
    /// The peak begins anew with each fork (only an exec hands it on), so it is
    /// this worker's own.
    #[expect(unsafe_code, reason = "getrusage")]
    fn take() -> Self {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel fills the structure; all zero bytes are valid too.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        let nanoseconds = |time: libc::timeval| {
            time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_usec.unsigned_abs() * 1_000
        };
        Self {
            user_nanoseconds: nanoseconds(usage.ru_utime),
            system_nanoseconds: nanoseconds(usage.ru_stime),
            peak_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
        }
    }
}

/// Resident memory that is not of files or shared: what this worker costs.
fn anonymous_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}
