//! Processes of this machine, as the kernel tells of them, and signals that
//! reach no other process than the one that was meant.

mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod kill;
mod memory;
mod stat;
mod strangers;
mod tree;

pub(crate) use files::Proc;
pub(crate) use kill::{kill_below, signal};
pub(crate) use stat::{Process, Stat};
pub(crate) use strangers::strangers;
pub(crate) use tree::{Tree, cpu_nanoseconds, threads};
