//! Who runs next: pure decisions. Events go in, actions come out.
//!
//! Knows neither tokio nor a clock nor a process; time arrives with events.
//! Sessions get slots by their weights; within a session, calls take turns. No slot idles while a batch that may run waits, be it in the queue or
//! prefetched by a worker that is busy. While memory is short, what runs makes
//! way, and nothing begins unless nothing runs. A batch that made way twice runs
//! alone.

mod action;
mod alone;
mod event;
mod fairness;
mod prefetch;
mod pressure;
mod share;
mod state;
mod transition;

#[cfg(test)]
mod tests;

pub use action::{Action, StopReason};
pub use event::Event;
pub use share::{NoWeight, Share, Weight};
pub use state::{Options, Scheduler, SessionCounts};
