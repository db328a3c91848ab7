//! Zygotes and workers of a real interpreter, seen from the agent's side.
//!
//! Needs `CLUTCH_TEST_PYTHON`, an environment with numpy, joblib, cloudpickle
//! and threadpoolctl, and a built `libclutch_interpreter.so`.

mod arguments;
// The attribute tells clippy that its helpers are test code too.
#[cfg(test)]
mod blobs;
mod endings;
#[cfg(test)]
mod harness;
mod results;
mod shared_objects;
mod tasks;
mod workers;
