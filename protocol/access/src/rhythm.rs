//! Whether a connection was cut before its end came.
//!
//! Who gives a connection up that was cut closes it, which the peer hears once the
//! network has healed. That is no sign of a dead process.

use std::time::{Duration, Instant};

use crate::Keepalive;

/// How long after a pause an end is still that of a connection that was cut: what
/// the peer said before it gave up arrives ahead of that.
const HEALING: Duration = Duration::from_secs(2);

/// When bytes came.
#[derive(Debug)]
pub(crate) struct Rhythm {
    /// After so long without a byte, the connection was cut: on one that is whole,
    /// either side asks for a sign of life before. Shorter than it takes to give up.
    cut: Duration,
    last: Instant,
    /// When they came again after they had ceased.
    healed: Option<Instant>,
}

impl Rhythm {
    pub(crate) fn new(keepalive: Keepalive, now: Instant) -> Self {
        Self { cut: keepalive.interval + keepalive.timeout / 2, last: now, healed: None }
    }

    pub(crate) fn beat(&mut self, now: Instant) {
        if now.duration_since(self.last) >= self.cut {
            self.healed = Some(now);
        }
        self.last = now;
    }

    /// Whether an end now is that of a connection that was whole.
    pub(crate) fn was_whole(&mut self, now: Instant) -> bool {
        self.beat(now);
        self.healed.is_none_or(|healed| now.duration_since(healed) >= HEALING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_connection_that_was_cut_is_not_its_peers() {
        let (start, cut) = (Instant::now(), Duration::from_millis(12_500));
        let rhythm = || Rhythm::new(Keepalive::default(), start);
        assert!(rhythm().was_whole(start + cut / 2));
        assert!(!rhythm().was_whole(start + cut));
        let mut healed = rhythm();
        healed.beat(start + cut);
        assert!(!healed.was_whole(start + cut + HEALING / 2));
        assert!(healed.was_whole(start + cut + HEALING));
    }
}
