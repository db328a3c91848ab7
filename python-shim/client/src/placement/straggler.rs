//! Batches that members have, and second copies of those that take long.

use super::{BlobId, Decision, MemberId, Placement};

/// A batch is late when it takes so many times as long as others do...
const TIMES: f64 = 2.0;
/// ...and so many seconds longer.
const LATER: f64 = 0.1;

/// A batch that one or two members have.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) needs: Vec<(BlobId, u64)>,
    /// It has its outcome; what is left is a copy that will be cancelled.
    pub(super) done: bool,
    copies: [Option<At>; 2],
}

#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    member: MemberId,
    since: f64,
    /// A slot was free.
    had_room: bool,
}

impl At {
    /// Since when it could run.
    pub(super) fn begun(self) -> Option<f64> {
        self.had_room.then_some(self.since)
    }
}

impl Placed {
    pub(super) fn new(needs: Vec<(BlobId, u64)>) -> Self {
        Self { needs, done: false, copies: [None; 2] }
    }

    pub(super) fn put(&mut self, member: MemberId, since: f64, had_room: bool) {
        if let Some(place) = self.copies.iter_mut().find(|at| at.is_none()) {
            *place = Some(At { member, since, had_room });
        }
    }

    /// Takes it from a member, if that had it.
    pub(super) fn remove(&mut self, member: MemberId) -> Option<At> {
        let had = |at: &&mut Option<At>| at.is_some_and(|at| at.member == member);
        self.copies.iter_mut().find(had)?.take()
    }

    pub(super) fn is_nowhere(&self) -> bool {
        self.copies.iter().all(Option::is_none)
    }

    /// Who alone has it, and since when.
    fn alone(&self) -> Option<At> {
        match self.copies {
            [Some(at), None] | [None, Some(at)] if !self.done => Some(at),
            _ => None,
        }
    }
}

impl Placement {
    /// Has idle members run copies of batches that take long, once nothing waits.
    pub(super) fn copy_stragglers(&mut self, now: f64, decisions: &mut Vec<Decision>) {
        let Some(duration) = self.duration else { return };
        if !self.speculative || !self.waiting.is_empty() || self.free.is_empty() {
            return;
        }
        let late = (TIMES * duration).max(duration + LATER);
        let mut stragglers = self
            .placed
            .iter()
            .filter_map(|(batch, placed)| Some((placed.alone()?, *batch)))
            .filter(|(at, _)| now - at.since > late)
            .collect::<Vec<_>>();
        stragglers.sort_by(|(a, one), (b, other)| a.since.total_cmp(&b.since).then(one.cmp(other)));
        for (at, batch) in stragglers {
            if !self.may_start() {
                return;
            }
            // At most one of them is where the batch is already.
            let mut idle = self.free.iter().map(|(_, id)| *id).take(2);
            let Some(member) = idle.find(|id| *id != at.member) else { continue };
            self.put(member, batch, Vec::new(), now);
            decisions.push(Decision { batch, member, copy: true });
        }
    }
}
