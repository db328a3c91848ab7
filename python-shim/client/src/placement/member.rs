//! One agent as placement sees it.

/// How much a new measure counts.
const WEIGHT: f64 = 0.25;
/// The part of its time that a slot may be idle before batches are sent ahead.
const IDLE: f64 = 0.01;
/// What is sent ahead keeps a member busy no longer than this, in seconds, or than a
/// way there and back: it cannot go elsewhere any more.
const LONGEST_AHEAD: f64 = 0.3;
/// Batches that take less, in seconds, are sent ahead to the last.
const QUICK: f64 = 0.05;
/// Most batches that are sent ahead for each slot.
const MOST_AHEAD: f64 = 16.0;
/// Bytes a second, until something was measured.
const BANDWIDTH: f64 = 1e9;
/// Less than that tells nothing of the bandwidth.
const TELLING_BYTES: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Member {
    /// Batches that it runs at once; 0: it takes no more.
    pub(super) slots: u32,
    /// Batches that it has.
    pub(super) has: u32,
    pub(super) lost: bool,
    /// How long a batch runs here, about.
    duration: Option<f64>,
    /// What a batch takes longer than it runs, where a slot was free.
    latency: Option<f64>,
    bandwidth: Option<f64>,
}

impl Member {
    /// How full it is; the first to get more has the least.
    pub(super) fn level(&self) -> u64 {
        if self.slots == 0 {
            return u64::MAX;
        }
        (u64::from(self.has) << 24) / u64::from(self.slots)
    }

    /// Slots that are taken.
    pub(super) fn taken(&self) -> u32 {
        self.has.min(self.slots)
    }

    /// Batches that it may have, those included that are sent ahead.
    pub(super) fn most(&self) -> u32 {
        let (Some(duration), Some(latency)) = (self.duration, self.latency) else {
            return self.slots;
        };
        if latency < IDLE * (duration + latency) {
            return self.slots;
        }
        // So many end while one is on its way; all together they end so much later.
        let each = duration.max(1e-6) / f64::from(self.slots.max(1));
        let wanted = (latency / each).ceil();
        let bound = (LONGEST_AHEAD.max(latency) / each).floor();
        let ahead = wanted.min(bound).clamp(0.0, MOST_AHEAD * f64::from(self.slots));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and some times the slots"
        )]
        let ahead = ahead as u32;
        self.slots.saturating_add(ahead)
    }

    /// Whether a batch here is over so soon that it matters little where it waits.
    pub(super) fn is_quick(&self) -> bool {
        self.duration.is_some_and(|duration| duration < QUICK)
    }

    /// A batch has ended that it got at `since` with a slot free, if it had one.
    pub(super) fn learn(&mut self, ran: f64, since: Option<f64>, now: f64) {
        self.duration = Some(blend(self.duration, ran));
        if let Some(since) = since {
            let latency = (now - since - ran).max(0.0);
            self.latency = Some(match self.latency {
                // The first ones waited for their workers to start.
                Some(known) if latency > known => blend(Some(known), latency.min(4.0 * known)),
                _ => latency.max(1e-6),
            });
        }
    }

    pub(super) fn moved(&mut self, bytes: u64, seconds: f64) {
        if bytes >= TELLING_BYTES {
            self.bandwidth = Some(blend(self.bandwidth, as_float(bytes) / seconds.max(1e-6)));
        }
    }

    /// How long so many bytes take to get there, in seconds.
    pub(super) fn way(&self, bytes: u64) -> f64 {
        as_float(bytes) / self.bandwidth.unwrap_or(BANDWIDTH)
    }
}

/// A measure that follows new ones slowly.
pub(super) fn blend(known: Option<f64>, new: f64) -> f64 {
    known.map_or(new, |known| known + WEIGHT * (new - known))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}
