//! When a worker is replaced although it works.

use crate::settings::PoolOptions;

/// A worker's history, as far as its replacement depends on it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct History {
    batches: u64,
    /// Own memory after its first batch, bytes.
    first_memory_bytes: u64,
}

impl History {
    /// Takes note of a finished batch; true when the worker should be replaced.
    pub(super) fn batch_ended(&mut self, memory_bytes: u64, options: &PoolOptions) -> bool {
        self.batches += 1;
        if self.batches == 1 {
            self.first_memory_bytes = memory_bytes;
        }
        let growth = memory_bytes.saturating_sub(self.first_memory_bytes);
        options.worker_max_batches.is_some_and(|most| self.batches >= most)
            || options.worker_max_growth_bytes.is_some_and(|most| growth > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{RawSettings, Settings};

    fn options(batches: u64, growth: u64) -> PoolOptions {
        let raw = RawSettings {
            python: vec!["/bin/sh".into()],
            worker_max_batches: Some(batches),
            worker_max_growth_bytes: Some(growth),
            ..RawSettings::default()
        };
        Settings::resolve(raw).unwrap().pool
    }

    #[test]
    fn a_worker_is_replaced_after_its_batches() {
        let mut history = History::default();
        let ended: Vec<_> = (0..3).map(|_| history.batch_ended(5, &options(3, 0))).collect();
        assert_eq!(ended, [false, false, true]);
    }

    #[test]
    fn a_worker_is_replaced_when_it_grew_since_its_first_batch() {
        let mut history = History::default();
        let memory = [1000, 1100, 900, 1101];
        let ended = memory.map(|bytes| history.batch_ended(bytes, &options(0, 100)));
        assert_eq!(ended, [false, false, false, true]);
    }

    #[test]
    fn zero_means_never() {
        let mut history = History::default();
        assert!((0..99).all(|n| !history.batch_ended(n << 40, &options(0, 0))));
    }
}
