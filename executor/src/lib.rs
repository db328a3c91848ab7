//! The Clutch agent.

pub mod host;
