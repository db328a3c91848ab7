//! Where the time of each batch went.

use clutch_protocol::v1;

/// Rows that are kept for a call; more are only counted.
const MAX_ROWS: usize = 100_000;

/// The rows of a call, in the order in which its batches ended.
#[derive(Debug, Default)]
pub struct Rows {
    kept: Vec<Row>,
    dropped: usize,
}

/// One batch.
#[derive(Debug)]
pub struct Row {
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
}

impl Rows {
    pub(crate) fn add(&mut self, row: Row) {
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
}
