//! What a worker and all that it starts may use, and what holds it to that.
//!
//! The kernel does, by control groups, where this process may make some; else
//! the agent looks several times a second. Which of them is decided once, at
//! the start, and told to everybody who asks.

mod asked;
mod cgroup;
mod enclosure;
mod enforcement;
mod enforcer;
mod instance;

pub use asked::{Bounded, LimitOptions, Limits, OverCeiling};
pub(crate) use enclosure::{Counters, Enclosure};
pub use enforcement::{Enforcement, Mechanism};
pub(crate) use enforcer::Enforcer;
