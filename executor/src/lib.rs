//! The Clutch agent: runs joblib batches in forked Python workers.
//!
//! One road through the house: a driver's batch comes in at `service`, is
//! checked by `session`, waits in `dispatch` until the pure `scheduler` gives
//! it a slot, runs in a worker of the `pool`, and its outcome goes back the
//! same way. No Python is loaded into this process: `host` is what the hidden
//! subcommand of the same binary becomes when it turns into a zygote.

pub mod agent;
pub mod blobs;
pub mod cli;
pub mod clock;
pub mod doctor;
pub mod exit_code;
pub mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod host;
pub mod identifiers;
pub mod limits;
pub mod operator;
pub mod scheduler;
pub mod settings;
pub mod worker_user;

mod dispatch;
mod error_chain;
mod machine;
mod pool;
mod processes;
mod random_name;
mod service;
mod session;
mod telemetry;
