//! Where the time of each batch went.

use std::collections::BTreeMap;
use std::sync::Arc;

use clutch_protocol::v1;

/// Rows that are kept for a call; more are only counted.
const MAX_ROWS: usize = 100_000;

/// The rows of a call, in the order in which its batches ended.
#[derive(Debug, Default)]
pub struct Rows {
    kept: Vec<Row>,
    dropped: usize,
    retried: BTreeMap<i32, u64>,
    noted: BTreeMap<i32, Noted>,
}

/// What the notes of one kind add up to, over all batches of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// Batches that have such a note.
    pub batches: u64,
    /// The sum of their counts.
    pub count: u64,
}

/// One batch.
#[derive(Debug)]
pub struct Row {
    /// The driver's own name of the batch.
    pub number: u64,
    /// Whether another agent had the batch at the same time, and first.
    pub copy: bool,
    /// Who ran it.
    pub agent: Arc<Agent>,
    /// Its name in the session.
    pub batch_id: u64,
    /// Its tasks.
    pub tasks: u32,
    /// The worker; 0 when it never reached one.
    pub worker_pid: u32,
    /// When each phase happened.
    pub timings: v1::Timings,
    /// What it used.
    pub usage: v1::Usage,
    /// The kind of failure; `None` when it returned.
    pub failed: Option<i32>,
    /// How many agents were lost that had the batch before.
    pub losses: usize,
    /// The kinds of failure of the attempts before this one at the same agent, in order.
    pub earlier: Vec<i32>,
    /// What else happened.
    pub notes: Vec<v1::Note>,
}

/// An agent as people know it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// Its address.
    pub address: String,
    /// Its machine.
    pub host: String,
}

impl Rows {
    pub(crate) fn add(&mut self, row: Row) {
        for (index, kind) in row.earlier.iter().enumerate() {
            if !row.earlier[..index].contains(kind) {
                *self.retried.entry(*kind).or_default() += 1;
            }
        }
        for note in &row.notes {
            let noted = self.noted.entry(note.kind).or_default();
            noted.batches += 1;
            noted.count = noted.count.saturating_add(note.count);
        }
        if self.kept.len() < MAX_ROWS {
            self.kept.push(row);
        } else {
            self.dropped += 1;
        }
    }

    /// The rows that are kept.
    pub fn kept(&self) -> &[Row] {
        &self.kept
    }

    /// How many more there were.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// How many batches were run again after each kind of failure, those
    /// without a row included.
    pub fn retried(&self) -> &BTreeMap<i32, u64> {
        &self.retried
    }

    /// The notes of all batches by their kind, those without a row included.
    pub fn noted(&self) -> &BTreeMap<i32, Noted> {
        &self.noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(earlier: &[i32], notes: &[(i32, u64)]) -> Row {
        let notes = notes.iter().map(|(kind, count)| v1::Note { kind: *kind, count: *count });
        Row {
            number: 1,
            copy: false,
            agent: Arc::default(),
            batch_id: 1,
            tasks: 1,
            worker_pid: 2,
            timings: v1::Timings::default(),
            usage: v1::Usage::default(),
            failed: None,
            losses: 0,
            earlier: earlier.to_vec(),
            notes: notes.collect(),
        }
    }

    #[test]
    fn totals_count_batches_and_outlast_their_rows() {
        let mut rows = Rows::default();
        for _ in 0..=MAX_ROWS {
            rows.add(row(&[16, 16, 17], &[(2, 3)]));
        }
        rows.add(row(&[], &[(2, u64::MAX), (5, 1)]));
        assert_eq!((rows.kept().len(), rows.dropped()), (MAX_ROWS, 2));
        let batches = MAX_ROWS as u64 + 1;
        assert_eq!(rows.retried(), &BTreeMap::from([(16, batches), (17, batches)]));
        let threads = Noted { batches: batches + 1, count: u64::MAX };
        let throttled = Noted { batches: 1, count: 1 };
        assert_eq!(rows.noted(), &BTreeMap::from([(2, threads), (5, throttled)]));
    }
}
