//! What a worker uses, cheaply: batches may take microseconds.

use std::time::{Duration, Instant};

use clutch_worker_link::BatchReport;

/// What is read from /proc, as resident memory is, is read no more often than
/// this.
const SELDOM: Duration = Duration::from_millis(50);

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
    /// Of the children that were waited for.
    children_nanoseconds: u64,
    peak_bytes: u64,
}

impl Meter {
    /// A batch begins; `at_once` when the one before it has just ended, so that
    /// nothing can have been used in between. Says how much CPU time the worker
    /// and the children that it has waited for have used by now, in nanoseconds.
    pub(crate) fn start(&mut self, at_once: bool) -> u64 {
        let at_end = self.at_end.take().filter(|_| at_once);
        self.at_start = at_end.unwrap_or_else(Reading::take);
        let Reading { user_nanoseconds, system_nanoseconds, children_nanoseconds, .. } =
            self.at_start;
        user_nanoseconds + system_nanoseconds + children_nanoseconds
    }

    /// A batch was skipped, perhaps after a wait.
    pub(crate) fn skip(&mut self) {
        self.at_end = None;
    }

    /// The batch is over: enters what it used. Says whether it is time to look
    /// at what is dear to look at.
    pub(crate) fn finish(&mut self, report: &mut BatchReport) -> bool {
        let (begin, end) = (self.at_start, Reading::take());
        self.at_end = Some(end);
        report.user_nanoseconds = end.user_nanoseconds.saturating_sub(begin.user_nanoseconds);
        report.system_nanoseconds = end.system_nanoseconds.saturating_sub(begin.system_nanoseconds);
        report.peak_memory_bytes = end.peak_bytes;
        let due = self.memory_read_at.is_none_or(|at| at.elapsed() >= SELDOM);
        if due {
            self.memory_bytes = anonymous_bytes().unwrap_or(self.memory_bytes);
            self.memory_read_at = Some(Instant::now());
        }
        report.memory_bytes = self.memory_bytes;
        due
    }
}

impl Reading {
    /// The peak begins anew with each fork (only an exec hands it on), so it is
    /// this worker's own.
    fn take() -> Self {
        let nanoseconds = |time: libc::timeval| {
            time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_usec.unsigned_abs() * 1_000
        };
        let (own, children) = (usage(libc::RUSAGE_SELF), usage(libc::RUSAGE_CHILDREN));
        Self {
            user_nanoseconds: nanoseconds(own.ru_utime),
            system_nanoseconds: nanoseconds(own.ru_stime),
            children_nanoseconds: nanoseconds(children.ru_utime) + nanoseconds(children.ru_stime),
            peak_bytes: own.ru_maxrss.unsigned_abs() * 1024,
        }
    }
}

#[expect(unsafe_code, reason = "getrusage")]
fn usage(whose: libc::c_int) -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure; all zero bytes are valid too.
    unsafe {
        libc::getrusage(whose, usage.as_mut_ptr());
        usage.assume_init()
    }
}

/// Resident memory that is not of files or shared: what this worker costs.
fn anonymous_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}
