//! What a worker and all that it starts may use, and what holds it to that.
//!
//! The kernel does, by control groups, where this process may make some; else
//! the agent looks several times a second. Which of them is decided once, at
//! the start, and told to everybody who asks.

mod affinity;
mod asked;
mod cgroup;
mod enclosed;
mod enclosure;
mod enforcement;
mod enforcer;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod instance;
mod looks;
mod memory;
mod prepare;
mod pressure;
mod pulse;
mod rlimits;
mod scratch;
mod scratch_removal;
mod scratch_size;
mod session_files;
mod watch;
mod watch_loop;

#[cfg(test)]
mod real_tests;

pub use asked::{Bounded, LimitOptions, Limits, OverCeiling};
pub(crate) use enclosure::{Counters, Enclosure};
pub use enforcement::{Enforcement, Mechanism};
pub(crate) use enforcer::Enforcer;
pub(crate) use pressure::Shortage;
pub(crate) use session_files::SessionFiles;
pub(crate) use watch::{Passed, Resource};
