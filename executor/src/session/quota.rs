//! How much one session may hold at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::{Failure, Kind};
use crate::settings::SessionOptions;

/// The bounds of one session, and how much of them is used.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    options: SessionOptions,
    used: Arc<Used>,
}

#[derive(Debug, Default)]
struct Used {
    batches: AtomicU64,
    bytes: AtomicU64,
}

/// One batch's share; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    used: Arc<Used>,
    bytes: u64,
}

impl Quota {
    /// An unused quota.
    pub(crate) fn new(options: SessionOptions) -> Self {
        Self { options, used: Arc::default() }
    }

    /// Charges a batch.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] naming the bound that the batch would pass.
    pub(crate) fn charge(&self, bytes: u64) -> Result<Charge, Failure> {
        let SessionOptions { max_batch_bytes, max_session_bytes, max_open_batches, .. } =
            self.options;
        let over = |what: &str, value: u64, setting: &str, limit: u64| {
            let message = format!("{what} would be {value}; `{setting}` allows {limit}");
            Err(Failure::new(Kind::QuotaExceeded, message))
        };
        if bytes > max_batch_bytes {
            return over("bytes of this batch", bytes, "max-batch-bytes", max_batch_bytes);
        }
        // The charge is taken first and given back by `drop` when refused, so
        // that two threads can never both take the last share.
        let charge = Charge { used: Arc::clone(&self.used), bytes };
        let batches = self.used.batches.fetch_add(1, Ordering::AcqRel) + 1;
        let held = self.used.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if batches > max_open_batches as u64 {
            let limit = max_open_batches as u64;
            return over("open batches of this session", batches, "max-open-batches", limit);
        }
        if held > max_session_bytes {
            let what = "bytes held by this session's batches";
            return over(what, held, "max-session-bytes", max_session_bytes);
        }
        Ok(charge)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.batches.fetch_sub(1, Ordering::AcqRel);
        self.used.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> Quota {
        Quota::new(SessionOptions {
            max_sessions: 1,
            max_open_batches: 2,
            max_batch_bytes: 10,
            max_session_bytes: 15,
            max_silence: std::time::Duration::ZERO,
        })
    }

    #[test]
    fn each_bound_is_named_when_it_is_passed() {
        let quota = quota();
        let error = quota.charge(11).unwrap_err();
        assert_eq!(error.message, "bytes of this batch would be 11; `max-batch-bytes` allows 10");
        let _first = quota.charge(10).unwrap();
        assert!(quota.charge(6).unwrap_err().message.contains("`max-session-bytes` allows 15"));
        let _second = quota.charge(5).unwrap();
        assert!(quota.charge(0).unwrap_err().message.contains("`max-open-batches` allows 2"));
    }

    #[test]
    fn what_ended_is_given_back_and_what_was_refused_was_never_taken() {
        let quota = quota();
        for _ in 0..3 {
            let held = quota.charge(10).unwrap();
            assert!(quota.charge(10).is_err());
            drop(held);
        }
        assert_eq!(quota.used.bytes.load(Ordering::Acquire), 0);
        assert_eq!(quota.used.batches.load(Ordering::Acquire), 0);
    }
}
