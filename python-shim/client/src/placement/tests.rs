use std::collections::{BTreeMap, BTreeSet};

use super::*;

const BIG: u64 = 100 << 20;

fn joined(members: &[u32]) -> Placement {
    let mut placement = Placement::new(0, false);
    for (member, slots) in (0..).zip(members) {
        assert_eq!(placement.handle(Event::Joined { member, slots: *slots }, 0.0), []);
    }
    placement
}

fn submit(placement: &mut Placement, batch: BatchId, needs: &[(BlobId, u64)]) -> Vec<MemberId> {
    let decisions = placement.handle(Event::Submitted { batch, needs: needs.to_vec() }, 0.0);
    decisions.into_iter().map(|decision| decision.member).collect()
}

fn end(placement: &mut Placement, member: MemberId, batch: BatchId, now: f64) -> Vec<Decision> {
    placement.handle(Event::Ended { member, batch, ran: Some(1.0) }, now)
}

#[test]
fn batches_go_to_the_emptiest_and_wait_when_all_are_full() {
    let mut placement = joined(&[1, 2]);
    let members: Vec<_> = (0..4).flat_map(|batch| submit(&mut placement, batch, &[])).collect();
    assert_eq!(members, [0, 1, 1]);
    assert_eq!(placement.waiting(), 1);
    assert_eq!(end(&mut placement, 1, 1, 1.0), [Decision { batch: 3, member: 1, copy: false }]);
}

#[test]
fn a_member_that_joins_gets_what_waits() {
    let mut placement = joined(&[1]);
    for batch in 0..3 {
        submit(&mut placement, batch, &[]);
    }
    let decisions = placement.handle(Event::Joined { member: 1, slots: 4 }, 0.0);
    let members: Vec<_> = decisions.iter().map(|decision| decision.member).collect();
    assert_eq!(members, [1, 1]);
}

#[test]
fn what_a_lost_member_had_goes_elsewhere_in_its_order() {
    let mut placement = joined(&[1, 1]);
    for batch in 0..3 {
        submit(&mut placement, batch, &[]);
    }
    assert_eq!(placement.handle(Event::Lost { member: 0 }, 0.0), []);
    assert_eq!(placement.handle(Event::Returned { member: 0, batch: 0 }, 0.0), []);
    assert_eq!(end(&mut placement, 1, 1, 1.0), [Decision { batch: 0, member: 1, copy: false }]);
}

#[test]
fn a_member_that_drains_keeps_what_it_runs_and_gets_no_more() {
    let mut placement = joined(&[1, 1]);
    submit(&mut placement, 0, &[]);
    placement.handle(Event::Slots { member: 0, slots: 0 }, 0.0);
    assert_eq!(submit(&mut placement, 1, &[]), [1]);
    assert_eq!(submit(&mut placement, 2, &[]), [0; 0]);
    assert_eq!(end(&mut placement, 0, 0, 1.0), []);
    assert_eq!(placement.slots(), 1);
}

#[test]
fn no_more_than_the_bound_run_on_all_members_together() {
    let mut placement = Placement::new(3, false);
    for member in 0..3 {
        placement.handle(Event::Joined { member, slots: 2 }, 0.0);
    }
    let members: Vec<_> = (0..5).flat_map(|batch| submit(&mut placement, batch, &[])).collect();
    assert_eq!(members, [0, 1, 2]);
    assert_eq!(end(&mut placement, 1, 1, 1.0), [Decision { batch: 3, member: 1, copy: false }]);
}

#[test]
fn short_batches_are_sent_ahead_and_long_ones_are_not() {
    for (ran, ahead) in [(0.001, true), (30.0, false)] {
        let mut placement = joined(&[2]);
        submit(&mut placement, 0, &[]);
        // It took 10 ms longer than it ran.
        placement.handle(Event::Ended { member: 0, batch: 0, ran: Some(ran) }, ran + 0.01);
        let sent = (1..200).flat_map(|batch| submit(&mut placement, batch, &[])).count();
        assert_eq!(sent > 2, ahead, "{sent} were sent that run {ran} s each");
        assert!(sent <= 2 * 17);
    }
}

#[test]
fn the_last_ones_are_not_sent_ahead_unless_they_are_quick() {
    for (ran, left) in [(0.5, 2), (0.01, 0)] {
        let mut placement = joined(&[4, 4]);
        for batch in 0..30 {
            submit(&mut placement, batch, &[]);
        }
        // Each takes 100 ms longer than it runs; one ends after the other.
        let mut now = ran + 0.1;
        for batch in 0..20 {
            end_after(&mut placement, batch, ran, now);
            now += 0.01;
        }
        assert_eq!(placement.waiting(), left, "with batches of {ran} s");
    }
}

/// Ends a batch wherever it is.
fn end_after(placement: &mut Placement, batch: BatchId, ran: f64, now: f64) {
    for member in 0..2 {
        placement.handle(Event::Ended { member, batch, ran: Some(ran) }, now);
    }
}

#[test]
fn who_has_a_large_argument_is_preferred_while_a_slot_is_free() {
    let mut placement = joined(&[2, 2]);
    let needs = [(7, BIG)];
    assert_eq!(submit(&mut placement, 0, &needs), [0]);
    assert_eq!(submit(&mut placement, 1, &needs), [0]);
    // Nobody knows how long that lasts: the argument is sent.
    assert_eq!(submit(&mut placement, 2, &needs), [1]);
    // One that needs little goes to the emptiest.
    assert_eq!(submit(&mut placement, 3, &[(8, 10)]), [1]);
}

#[test]
fn a_batch_waits_for_who_has_its_argument_when_that_is_sooner() {
    let mut placement = joined(&[1, 1]);
    submit(&mut placement, 0, &[(7, BIG)]);
    // 100 MiB take ten seconds, and a batch one.
    placement.handle(Event::Moved { member: 1, bytes: BIG, seconds: 10.0 }, 0.0);
    assert_eq!(end(&mut placement, 0, 0, 1.0), []);
    assert_eq!(submit(&mut placement, 1, &[(7, BIG)]), [0]);
    assert_eq!(submit(&mut placement, 2, &[(7, BIG)]), [0; 0]);
    // Others go by.
    assert_eq!(submit(&mut placement, 3, &[]), [1]);
    assert_eq!(end(&mut placement, 1, 3, 1.0), []);
    // It does not wait longer than the argument would take.
    let decisions = placement.handle(Event::Tick, 11.0);
    assert_eq!(decisions, [Decision { batch: 2, member: 1, copy: false }]);
}

#[test]
fn many_that_wait_make_it_worth_while_to_send_the_argument() {
    let mut placement = joined(&[1, 1]);
    submit(&mut placement, 0, &[(7, BIG)]);
    placement.handle(Event::Moved { member: 1, bytes: BIG, seconds: 10.0 }, 0.0);
    end(&mut placement, 0, 0, 1.0);
    let members: Vec<_> =
        (1..20).flat_map(|batch| submit(&mut placement, batch, &[(7, BIG)])).collect();
    assert_eq!(members, [0, 1]);
}

fn with_a_straggler(speculative: bool) -> Placement {
    let mut placement = Placement::new(0, speculative);
    for member in 0..2 {
        placement.handle(Event::Joined { member, slots: 1 }, 0.0);
    }
    submit(&mut placement, 0, &[]);
    submit(&mut placement, 1, &[]);
    assert_eq!(end(&mut placement, 1, 1, 1.0), []);
    placement
}

#[test]
fn a_straggler_gets_one_copy_when_nothing_waits() {
    assert_eq!(with_a_straggler(false).handle(Event::Tick, 9.0), []);
    let mut placement = with_a_straggler(true);
    assert_eq!(placement.handle(Event::Tick, 1.5), []);
    let copy = Decision { batch: 0, member: 1, copy: true };
    assert_eq!(placement.handle(Event::Tick, 9.0), [copy]);
    assert_eq!(placement.handle(Event::Tick, 99.0), []);
    // The copy is first; the other one's slot is free once it has ended too.
    end(&mut placement, 1, 0, 10.0);
    assert_eq!(submit(&mut placement, 2, &[]), [1]);
    assert_eq!(submit(&mut placement, 3, &[]), [0; 0]);
    assert_eq!(
        placement.handle(Event::Returned { member: 0, batch: 0 }, 10.0),
        [Decision { batch: 3, member: 0, copy: false }]
    );
}

#[test]
fn of_a_batch_with_a_copy_only_the_loss_of_both_brings_it_back() {
    let mut placement = with_a_straggler(true);
    placement.handle(Event::Tick, 9.0);
    placement.handle(Event::Lost { member: 0 }, 9.0);
    assert_eq!(placement.handle(Event::Returned { member: 0, batch: 0 }, 9.0), []);
    assert_eq!(placement.waiting(), 0);
    placement.handle(Event::Returned { member: 1, batch: 0 }, 9.0);
    assert_eq!(placement.waiting(), 0);
    assert_eq!(end(&mut placement, 1, 0, 9.5), []);
}

/// The same numbers each time, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A call in which everything happens that can, with what must be true of it.
struct Story {
    chance: Chance,
    placement: Placement,
    now: f64,
    /// Slots of the members that are there.
    members: BTreeMap<MemberId, u32>,
    /// Who is lost, and what has not come back yet.
    lost: BTreeSet<MemberId>,
    at: BTreeSet<(BatchId, MemberId)>,
    open: BTreeSet<BatchId>,
    plain: bool,
    last_member: MemberId,
    last_batch: BatchId,
    ended: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let (speculative, plain) = (chance.below(2) == 0, chance.below(2) == 0);
        Self {
            placement: Placement::new(0, speculative),
            chance,
            now: 0.0,
            members: BTreeMap::new(),
            lost: BTreeSet::new(),
            at: BTreeSet::new(),
            open: BTreeSet::new(),
            plain,
            last_member: 0,
            last_batch: 0,
            ended: 0,
        }
    }

    fn step(&mut self) {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let passed = self.chance.below(1000) as f64 / 1e4;
        self.now += passed;
        let event = match self.chance.below(20) {
            0 => {
                self.last_member += 1;
                let slots = u32::try_from(self.chance.below(4)).unwrap();
                self.members.insert(self.last_member, slots);
                Event::Joined { member: self.last_member, slots }
            }
            1 => match self.some_member() {
                Some(member) => {
                    self.members.remove(&member);
                    self.lost.insert(member);
                    Event::Lost { member }
                }
                None => Event::Tick,
            },
            2 => match self.some_member() {
                Some(member) => {
                    let slots = u32::try_from(self.chance.below(4)).unwrap();
                    self.members.insert(member, slots);
                    Event::Slots { member, slots }
                }
                None => Event::Tick,
            },
            3..10 => {
                self.last_batch += 1;
                self.open.insert(self.last_batch);
                let blob = self.chance.below(3);
                let needs = if self.plain { Vec::new() } else { vec![(blob, BIG)] };
                Event::Submitted { batch: self.last_batch, needs }
            }
            10 => Event::Tick,
            _ => self.some_end(),
        };
        self.take(event);
    }

    fn some_member(&mut self) -> Option<MemberId> {
        let index = self.chance.below(self.members.len().max(1) as u64);
        self.members.keys().nth(usize::try_from(index).unwrap()).copied()
    }

    fn some_end(&mut self) -> Event {
        let index = self.chance.below(self.at.len().max(1) as u64);
        let some = self.at.iter().nth(usize::try_from(index).unwrap()).copied();
        let Some((batch, member)) = some else { return Event::Tick };
        self.at.remove(&(batch, member));
        if self.lost.contains(&member) || self.chance.below(8) == 0 {
            return Event::Returned { member, batch };
        }
        if self.open.remove(&batch) {
            self.ended += 1;
        }
        Event::Ended { member, batch, ran: Some(0.01) }
    }

    fn take(&mut self, event: Event) {
        for decision in self.placement.handle(event, self.now) {
            let Decision { batch, member, copy } = decision;
            assert!(self.members.contains_key(&member), "{decision:?} goes to nobody");
            assert!(self.open.contains(&batch), "{decision:?} runs again");
            let others = self.at.iter().filter(|(other, _)| *other == batch).count();
            assert_eq!(others, usize::from(copy), "{decision:?}");
            assert!(self.at.insert((batch, member)), "{decision:?} is there already");
        }
        // Nothing is lost: what is open waits or is somewhere.
        let placed: BTreeSet<_> = self.at.iter().map(|(batch, _)| *batch).collect();
        let nowhere = self.open.difference(&placed).count();
        assert_eq!(nowhere, self.placement.waiting());
        for (member, slots) in &self.members {
            let has = self.at.iter().filter(|(_, at)| at == member).count();
            if self.plain {
                assert!(has >= *slots as usize || nowhere == 0, "{member} idles while some wait");
            }
        }
    }
}

#[test]
fn every_batch_is_placed_once_and_ends_once_whatever_happens() {
    let mut ended = 0;
    for seed in 0..200 {
        let mut story = Story::new(seed);
        for _ in 0..400 {
            story.step();
        }
        // In the end all members are there, and all that is open ends.
        story.last_member += 1;
        story.members.insert(story.last_member, 3);
        let member = story.last_member;
        story.take(Event::Joined { member, slots: 3 });
        for _ in 0..20_000 {
            if story.open.is_empty() {
                break;
            }
            story.now += 1.0;
            let event = story.some_end();
            story.take(event);
        }
        assert!(story.open.is_empty(), "seed {seed}: {} never ended", story.open.len());
        ended += story.ended;
    }
    assert!(ended > 10_000);
}

#[test]
fn what_is_sent_ahead_is_bounded() {
    let mut placement = joined(&[4]);
    let mut at = BTreeSet::new();
    for batch in 0..10_000 {
        for decision in placement.handle(Event::Submitted { batch, needs: Vec::new() }, 0.0) {
            at.insert(decision.batch);
        }
        if batch % 2 == 0
            && let Some(first) = at.pop_first()
        {
            let event = Event::Ended { member: 0, batch: first, ran: Some(1e-5) };
            at.extend(placement.handle(event, 1.0).iter().map(|decision| decision.batch));
        }
        assert!(at.len() <= 4 * 17);
    }
}
