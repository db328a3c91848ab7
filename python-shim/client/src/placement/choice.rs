//! Who gets the next batch.

use super::{BatchId, BlobId, Decision, MemberId, Placement};

/// Less than so many bytes are sent wherever the batch goes.
const LARGE_BYTES: u64 = 1 << 20;
/// How many members are looked at for one that has what a batch needs.
const MOST_LOOKED_AT: usize = 64;
/// One batch for so many slots is the last that is sent ahead.
const LAST: usize = 4;
/// How many batches may be passed over because they wait for a member that has
/// what they need.
const MOST_PASSED: usize = 32;

impl Placement {
    /// Gives members what they have room for.
    pub(super) fn fill(&mut self, now: f64, decisions: &mut Vec<Decision>) {
        let mut passed = 0;
        let mut after = None;
        while passed <= MOST_PASSED && self.has_room() {
            let Some(batch) = self.next_after(after) else { return };
            if let Some(member) = self.choose(batch, now)
                && let Some(waiting) = self.waiting.remove(&batch)
            {
                self.put(member, batch, waiting.needs, now);
                decisions.push(Decision { batch, member, copy: false });
            } else {
                after = Some(batch);
                passed += 1;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.may_start() && !self.free.is_empty() || self.next_ahead().is_some()
    }

    /// Who may be sent a batch ahead. The last ones of a call stay here: a slot may be
    /// free sooner elsewhere.
    fn next_ahead(&self) -> Option<MemberId> {
        let (_, id) = *self.ahead.first()?;
        let many = self.waiting.len() > self.slots as usize / LAST;
        (many || self.members.get(&id)?.is_quick()).then_some(id)
    }

    /// Whether one more may run.
    pub(super) fn may_start(&self) -> bool {
        self.max_running == 0 || self.taken < self.max_running
    }

    fn next_after(&self, after: Option<BatchId>) -> Option<BatchId> {
        match after {
            None => self.waiting.keys().next().copied(),
            Some(after) => self.waiting.range(after + 1..).next().map(|(id, _)| *id),
        }
    }

    fn choose(&self, batch: BatchId, now: f64) -> Option<MemberId> {
        let waiting = self.waiting.get(&batch)?;
        let free = if self.may_start() { self.free.first() } else { None };
        let free = free.map(|(_, id)| *id);
        let bytes: u64 = waiting.needs.iter().map(|(_, bytes)| bytes).sum();
        if bytes < LARGE_BYTES {
            return free.or_else(|| self.next_ahead());
        }
        if let Some(free) = free {
            return match self.free_holder(&waiting.needs) {
                Some(holder) => Some(holder),
                None => self.pays(free, &waiting.needs, now - waiting.since).then_some(free),
            };
        }
        // Nothing is sent ahead to where its arguments are not.
        self.next_ahead()?;
        let ahead = self.ahead.iter().take(MOST_LOOKED_AT);
        ahead.map(|(_, id)| *id).find(|id| self.missing(*id, &waiting.needs) == 0)
    }

    fn free_holder(&self, needs: &[(BlobId, u64)]) -> Option<MemberId> {
        let emptiest = self.free.iter().map(|(_, id)| *id).take(MOST_LOOKED_AT);
        let holders = needs.iter().filter_map(|(blob, _)| self.holders.get(blob));
        let holders = holders.min_by_key(|holders| holders.len()).into_iter().flatten().copied();
        let has_all = |id: &MemberId| {
            self.members.get(id).is_some_and(|member| member.has < member.slots)
                && self.missing(*id, needs) == 0
        };
        emptiest.chain(holders.take(MOST_LOOKED_AT)).find(has_all)
    }

    /// Whether sending arguments to a member that has a free slot is better than to
    /// wait for one that has them, as the batch has for some time.
    fn pays(&self, free: MemberId, needs: &[(BlobId, u64)], waited: f64) -> bool {
        let Some(duration) = self.duration else { return true };
        let Some(member) = self.members.get(&free) else { return true };
        let way = member.way(self.missing(free, needs));
        let holders = needs.iter().filter_map(|(blob, _)| self.holders.get(blob));
        let slots = holders
            .min_by_key(|holders| holders.len())
            .into_iter()
            .flatten()
            .filter_map(|id| self.members.get(id))
            .map(|member| member.slots)
            .take(MOST_LOOKED_AT)
            .sum::<u32>();
        if slots == 0 || waited >= way {
            return true;
        }
        let before = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        duration * f64::from(before) / f64::from(slots) > way
    }

    /// Bytes that a member would have to get.
    fn missing(&self, id: MemberId, needs: &[(BlobId, u64)]) -> u64 {
        let has = |blob| self.holders.get(blob).is_some_and(|holders| holders.contains(&id));
        needs.iter().filter(|(blob, _)| !has(blob)).map(|(_, bytes)| bytes).sum()
    }
}
