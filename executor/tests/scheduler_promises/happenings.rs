//! What happens, by the dice.

use std::collections::BTreeSet;

use clutch_executor::clock::Monotonic;
use clutch_executor::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};
use clutch_executor::scheduler::{Event, Share, Weight};

use super::{Doing, World};

/// Numbers that look random and are the same in each run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % sides
    }

    /// What a session may have of the slots.
    pub(super) fn share(&mut self) -> Share {
        let weights = [0.01, 0.3, 1.0, 100.0].map(Weight::new);
        let weight = self.pick(weights).and_then(Result::ok).unwrap_or(Weight::ONE);
        Share { weight, max_running: (self.roll(3) == 0).then_some(1) }
    }

    pub(super) fn pick<T: Copy>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let from: Vec<T> = from.into_iter().collect();
        let count = u64::try_from(from.len()).ok()?;
        if count == 0 {
            return None;
        }
        from.get(usize::try_from(self.roll(count)).ok()?).copied()
    }
}

/// Something happens.
pub(super) fn happen(world: &mut World, dice: &mut Dice, number: u64) {
    let session = SessionId(dice.roll(3));
    match dice.roll(20) {
        0 => {
            let call = CallId { session, call: number };
            let profile = ProfileId { session, profile: dice.roll(2) };
            let most = u32::try_from(dice.roll(4)).unwrap_or(0) + 1;
            world.calls.insert(call, (most, BTreeSet::new()));
            let makes_way = dice.roll(3) > 0;
            world.tell(Event::CallOpened { call, profile, max_running: Some(most), makes_way });
        }
        1..=5 => {
            let Some(call) = dice.pick(world.calls.keys().copied()) else { return };
            let batch = BatchId { session: call.session, batch: number };
            world.submitted.insert(batch);
            world.calls.entry(call).or_default().1.insert(batch);
            let small = dice.roll(9) > 0;
            world.tell(Event::BatchSubmitted { batch, call, small });
        }
        6..=8 => {
            let Some((worker, doing)) = dice.pick(world.workers.iter().map(|(w, d)| (*w, *d)))
            else {
                return;
            };
            match doing {
                Doing::Starting => world.ready(worker),
                // Its answer was on its way before it died, or it was not.
                Doing::Dying(Some(batch)) if dice.roll(3) == 0 => {
                    world.finished(worker, batch, false, 1, false);
                }
                Doing::Running(batch) => {
                    let (recycle, again) = (dice.roll(9) == 0, dice.roll(6) == 0);
                    world.finished(worker, batch, recycle, dice.roll(3), again);
                }
                Doing::Nothing | Doing::Leaving | Doing::Dying(_) => {
                    world.worker_ends(worker, true);
                }
            }
        }
        9 => {
            let Some(worker) = dice.pick(world.workers.keys().copied()) else { return };
            let heard = dice.roll(2) == 0;
            world.worker_ends(worker, heard);
        }
        10 => {
            let Some(call) = dice.pick(world.calls.keys().copied()) else { return };
            world.calls.remove(&call);
            world.tell(Event::CallClosed(call));
        }
        11..=12 => {
            let Some(worker) = dice.pick(world.nexts.keys().copied()) else { return };
            world.claim(worker);
        }
        13 => pressure(world, dice),
        14..=15 => killed_by_the_kernel(world, dice),
        16..=18 if world.short => {
            world.now += dice.roll(3) * 600_000_000;
            if world.acute {
                let at = Monotonic::from_nanoseconds(world.now);
                world.tell(Event::PressureSeen { at });
            }
            world.tell(Event::Tick);
        }
        _ if dice.roll(20) == 0 => {
            world.close_session(session);
            world.open_session(session, dice.share());
        }
        _ => {
            world.now += dice.roll(2) * 20_000_000;
            world.tell(Event::Tick);
        }
    }
}

/// Memory comes and goes.
fn pressure(world: &mut World, dice: &mut Dice) {
    match dice.roll(7) {
        0 | 1 => {
            (world.short, world.acute) = (true, true);
            let at = Monotonic::from_nanoseconds(world.now);
            world.tell(Event::PressureSeen { at });
        }
        2 | 3 => {
            // As far as that is known, there is enough.
            (world.short, world.acute, world.scarce_until) = (false, false, 0);
            world.tell(Event::PressureEnded);
        }
        4 => {
            if !world.short {
                world.scarce_until = world.now + 1 + 1_000_000_000;
            }
            world.tell(Event::MemoryRanOut);
        }
        5 => {
            (world.short, world.acute) = (true, false);
            world.tell(Event::PressureEased);
        }
        _ => {
            let Some((_, batch)) = running(world, dice) else { return };
            let Some(call) = world.call_of(batch) else { return };
            world.tell(Event::BatchStays { batch, call });
        }
    }
}

/// A worker is killed for want of memory; most likely one that was before.
fn killed_by_the_kernel(world: &mut World, dice: &mut Dice) {
    let mut chosen = running(world, dice);
    for _ in 0..3 {
        let large = chosen.is_some_and(|(_, batch)| world.pressed.contains_key(&batch));
        chosen = if large { chosen } else { running(world, dice) };
    }
    let Some((worker, batch)) = chosen.filter(|(_, batch)| !world.last.contains(batch)) else {
        return;
    };
    if let Some(call) = world.call_of(batch) {
        world.press(call, batch);
        world.worker_ends(worker, false);
    }
}

fn running(world: &World, dice: &mut Dice) -> Option<(WorkerId, BatchId)> {
    dice.pick(world.workers.iter().filter_map(|(worker, doing)| match doing {
        Doing::Running(batch) => Some((*worker, *batch)),
        Doing::Starting | Doing::Nothing | Doing::Leaving | Doing::Dying(_) => None,
    }))
}
