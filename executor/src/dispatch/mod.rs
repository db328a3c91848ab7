//! The hands of the scheduler: one loop that takes every event, asks the
//! scheduler, and does what it says. Waits for nothing but events.

mod deliver;
mod event_loop;
mod handle;
mod message;
mod perform;
mod presence;
mod registry;
mod retry;
mod status;
mod trials;

pub(crate) use event_loop::{DispatchOptions, Dispatcher};
pub(crate) use handle::DispatchHandle;
pub(crate) use message::{AttachError, Attached, Joined, Lease, Opening};
pub(crate) use presence::StreamEnd;
