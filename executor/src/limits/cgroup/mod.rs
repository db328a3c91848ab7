//! Control groups: one for each worker with limits that the kernel can hold.
//!
//! Groups are made below the one that this process is in, so whatever holds for
//! the agent holds for its workers, too:
//!
//! ```text
//! where the agent is/
//!   agent/                       only where version 2 wants it: the agent
//!   clutch-<pid>-<start>/        the agent's workers; ceiling and weight
//!     pool/                      only with a ceiling or a weight: zygotes, and
//!                                workers without limits
//!     w<worker>/                 one worker and all that it starts
//! ```
//!
//! In version 1 there is such a tree for each controller, and workers join only
//! those that their limits need.

mod files;
#[cfg(feature = "fuzzing")]
pub(in crate::limits) mod fuzzing;
mod group;
mod hierarchies;
mod killer;
mod knobs;
mod leaf;
mod parent;
mod place;
mod probe;
mod removal;
mod stale;
mod v1;
mod v2;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod real_tests;

pub(in crate::limits) use group::{Group, GroupUsage};
pub(in crate::limits) use parent::Groups;
pub(in crate::limits) use probe::probe;
