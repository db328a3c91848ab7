//! Which agent gets which batch of a call. Decides and performs nothing: events in,
//! decisions out, time as an argument.
//!
//! Batches go to free slots. A few short ones go ahead to members whose slots are
//! taken, to hide the way there; the rest waits here in one queue, so that the last
//! ones are spread evenly and members that join get some.

mod choice;
mod member;
mod straggler;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use member::Member;
use straggler::Placed;

/// A session on an agent; never used again after its loss.
pub type MemberId = u32;
/// A batch; grows in the order of submission.
pub type BatchId = u64;
/// A large argument.
pub type BlobId = u64;

/// What happened. Times are seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A member is there.
    Joined {
        /// The member, a new one.
        member: MemberId,
        /// Batches that it runs at once.
        slots: u32,
    },
    /// A member runs more or fewer at once; with none it takes no more.
    Slots {
        /// The member.
        member: MemberId,
        /// Batches that it runs at once from now on.
        slots: u32,
    },
    /// A member is gone. What it had comes back by [`Event::Returned`].
    Lost {
        /// The member.
        member: MemberId,
    },
    /// A batch is to run.
    Submitted {
        /// The batch.
        batch: BatchId,
        /// The large arguments that it needs, with their bytes.
        needs: Vec<(BlobId, u64)>,
    },
    /// A batch has its outcome from this member.
    Ended {
        /// Who had it.
        member: MemberId,
        /// The batch.
        batch: BatchId,
        /// How long its tasks ran, where that is known.
        ran: Option<f64>,
    },
    /// A member will not end a batch that it had.
    Returned {
        /// Who had it.
        member: MemberId,
        /// The batch.
        batch: BatchId,
    },
    /// A member has blobs already.
    Holds {
        /// Who has them.
        member: MemberId,
        /// Which.
        blobs: Vec<BlobId>,
    },
    /// Content went to a member.
    Moved {
        /// Who has it now.
        member: MemberId,
        /// How much it was.
        bytes: u64,
        /// How long that took.
        seconds: f64,
    },
    /// Blobs are not needed any more.
    Dropped {
        /// Which.
        blobs: Vec<BlobId>,
    },
    /// Time went by.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The batch.
    pub batch: BatchId,
    /// Where it goes.
    pub member: MemberId,
    /// Another member has it too; what ends first counts.
    pub copy: bool,
}

/// The members of a call, and its batches that have not ended.
#[derive(Debug, Default)]
pub struct Placement {
    /// Batches that may run at once, over all members; 0: as many as there are slots.
    max_running: u32,
    /// Whether members without work may run copies.
    speculative: bool,
    members: HashMap<MemberId, Member>,
    /// Members with a free slot, the emptiest first.
    free: BTreeSet<(u64, MemberId)>,
    /// Members whose slots are taken, and which may be sent one more.
    ahead: BTreeSet<(u64, MemberId)>,
    /// Slots that are taken.
    taken: u32,
    /// Slots of all members.
    slots: u32,
    waiting: BTreeMap<BatchId, Waiting>,
    placed: HashMap<BatchId, Placed>,
    holders: HashMap<BlobId, BTreeSet<MemberId>>,
    /// How long a batch runs, about.
    duration: Option<f64>,
}

/// A batch that is nowhere.
#[derive(Debug, Clone)]
struct Waiting {
    needs: Vec<(BlobId, u64)>,
    since: f64,
}

impl Placement {
    /// Of a call that runs at most so many batches at once; 0: no such bound.
    #[must_use]
    pub fn new(max_running: u32, speculative: bool) -> Self {
        Self { max_running, speculative, ..Self::default() }
    }

    /// Takes an event in.
    pub fn handle(&mut self, event: Event, now: f64) -> Vec<Decision> {
        let mut decisions = Vec::new();
        match event {
            Event::Joined { member, slots } => {
                self.members.insert(member, Member::default());
                self.change(member, |joined| joined.slots = slots);
            }
            Event::Slots { member, slots } => self.change(member, |known| known.slots = slots),
            Event::Lost { member } => self.lose(member),
            Event::Submitted { batch, needs } => {
                self.waiting.insert(batch, Waiting { needs, since: now });
            }
            Event::Ended { member, batch, ran } => self.end(member, batch, ran, now),
            Event::Returned { member, batch } => self.take_back(member, batch, now),
            Event::Holds { member, blobs } => {
                for blob in blobs {
                    self.holders.entry(blob).or_default().insert(member);
                }
            }
            Event::Moved { member, bytes, seconds } => {
                if let Some(member) = self.members.get_mut(&member) {
                    member.moved(bytes, seconds);
                }
            }
            Event::Dropped { blobs } => {
                for blob in blobs {
                    self.holders.remove(&blob);
                }
            }
            Event::Tick => {}
        }
        self.fill(now, &mut decisions);
        self.copy_stragglers(now, &mut decisions);
        decisions
    }

    /// Batches that wait for a member.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Gives up what waits.
    pub fn take_waiting(&mut self) -> Vec<BatchId> {
        std::mem::take(&mut self.waiting).into_keys().collect()
    }

    /// Slots of all members that take batches.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    fn lose(&mut self, id: MemberId) {
        self.change(id, |member| {
            member.slots = 0;
            member.lost = true;
        });
        for holders in self.holders.values_mut() {
            holders.remove(&id);
        }
        self.forget_if_done(id);
    }

    fn end(&mut self, id: MemberId, batch: BatchId, ran: Option<f64>, now: f64) {
        let Some(placed) = self.placed.get_mut(&batch) else { return };
        let Some(at) = placed.remove(id) else { return };
        placed.done = true;
        if placed.is_nowhere() {
            self.placed.remove(&batch);
        }
        self.change(id, |member| {
            member.has -= 1;
            if let Some(ran) = ran {
                member.learn(ran, at.begun(), now);
            }
        });
        if let Some(ran) = ran {
            self.duration = Some(member::blend(self.duration, ran));
        }
        self.forget_if_done(id);
    }

    fn take_back(&mut self, id: MemberId, batch: BatchId, now: f64) {
        let Some(placed) = self.placed.get_mut(&batch) else { return };
        if placed.remove(id).is_none() {
            return;
        }
        if placed.is_nowhere()
            && let Some(placed) = self.placed.remove(&batch)
            && !placed.done
        {
            self.waiting.insert(batch, Waiting { needs: placed.needs, since: now });
        }
        self.change(id, |member| member.has -= 1);
        self.forget_if_done(id);
    }

    fn forget_if_done(&mut self, id: MemberId) {
        if self.members.get(&id).is_some_and(|member| member.lost && member.has == 0) {
            self.members.remove(&id);
        }
    }

    /// Changes a member, and where it stands among the others.
    fn change(&mut self, id: MemberId, how: impl FnOnce(&mut Member)) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let level = (member.level(), id);
        self.free.remove(&level);
        self.ahead.remove(&level);
        self.taken -= member.taken();
        self.slots -= member.slots;
        how(member);
        self.taken += member.taken();
        self.slots += member.slots;
        let level = (member.level(), id);
        if member.has < member.slots {
            self.free.insert(level);
        } else if member.has < member.most() {
            self.ahead.insert(level);
        }
    }

    fn put(&mut self, id: MemberId, batch: BatchId, needs: Vec<(BlobId, u64)>, now: f64) {
        // They are on their way: what comes next goes the same way.
        for (blob, _) in &needs {
            self.holders.entry(*blob).or_default().insert(id);
        }
        let had_room = self.members.get(&id).is_some_and(|member| member.has < member.slots);
        let placed = self.placed.entry(batch).or_insert_with(|| Placed::new(needs));
        placed.put(id, now, had_room);
        self.change(id, |member| member.has += 1);
    }
}
