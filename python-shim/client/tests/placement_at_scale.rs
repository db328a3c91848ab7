//! Placement alone, with as many agents as one driver may ever have, in virtual time.
#![expect(clippy::print_stdout, reason = "figures for docs/benchmarks.md")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use clutch_client::placement::{Decision, Event, Placement};

const AGENTS: u32 = 2_000;
const SLOTS: u32 = 4;
/// Tasks for each slot.
const ROUNDS: u64 = 20;
/// What a task takes, in microseconds.
const TASK: u64 = 1_000_000;
/// The way to an agent and back, in microseconds.
const WAY: u64 = 1_000;

/// How it went.
struct Run {
    /// Percent of the rate of slots that are never idle.
    percent: f64,
    /// What a decision took of real time.
    decision: Duration,
}

/// Runs a call. The driver needs `cost` microseconds for each task, one after the other.
fn run(cost: u64) -> Run {
    let mut placement = Placement::new(0, false);
    let mut real = Duration::ZERO;
    let mut handled = 0_u32;
    let mut handle = |event: Event, now: u64| {
        let begin = Instant::now();
        let decisions = placement.handle(event, seconds(now));
        real += begin.elapsed();
        handled += 1;
        decisions
    };
    for member in 0..AGENTS {
        handle(Event::Joined { member, slots: SLOTS }, 0);
    }
    let tasks = u64::from(AGENTS * SLOTS) * ROUNDS;
    // As joblib does: twice as many as slots, then one for each that ends.
    let ahead = tasks.min(u64::from(2 * AGENTS * SLOTS));
    let mut ends = BinaryHeap::new();
    // When a slot of each agent is free, and what the driver has done by then.
    let mut busy = vec![BinaryHeap::new(); AGENTS as usize];
    let mut driver = 0_u64;
    let mut submitted = 0;
    let mut last = 0;
    let mut ended = 0_u64;
    let mut start = |decisions: Vec<Decision>, now: u64, ends: &mut BinaryHeap<_>| {
        for Decision { batch, member, .. } in decisions {
            let slots = &mut busy[member as usize];
            let mut begin = now + WAY / 2;
            if slots.len() == SLOTS as usize
                && let Some(Reverse(free)) = slots.pop()
            {
                begin = begin.max(free);
            }
            slots.push(Reverse(begin + TASK));
            ends.push(Reverse((begin + TASK + WAY / 2, member, batch)));
        }
    };
    while submitted < ahead {
        driver += cost;
        let event = Event::Submitted { batch: submitted, needs: Vec::new() };
        start(handle(event, driver), driver, &mut ends);
        submitted += 1;
    }
    while let Some(Reverse((at, member, batch))) = ends.pop() {
        driver = driver.max(at) + cost;
        last = at;
        ended += 1;
        let event = Event::Ended { member, batch, ran: Some(seconds(TASK)) };
        start(handle(event, driver), driver, &mut ends);
        if submitted < tasks {
            let event = Event::Submitted { batch: submitted, needs: Vec::new() };
            start(handle(event, driver), driver, &mut ends);
            submitted += 1;
        }
    }
    assert_eq!(ended, tasks);
    Run { percent: 100.0 * seconds(ROUNDS * TASK) / seconds(last), decision: real / handled }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a minute")]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[test]
fn two_thousand_agents_are_kept_busy() {
    // 8,000 tasks a second leave a driver 125 microseconds for each.
    for (cost, least) in [(0, 99.0), (50, 95.0), (100, 90.0)] {
        let Run { percent, decision } = run(cost);
        println!(
            "{AGENTS} agents, driver {cost} us a task: {percent:.1} % of the ideal rate; \
             a decision takes {decision:?}"
        );
        assert!(percent >= least, "{percent} %");
    }
}
