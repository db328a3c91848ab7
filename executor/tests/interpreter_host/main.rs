//! Zygotes and workers of a real interpreter, seen from the agent's side.
//!
//! Needs `CLUTCH_TEST_PYTHON`, an environment with numpy, joblib, cloudpickle
//! and threadpoolctl, and a built `libclutch_interpreter.so`.

mod arguments;
// The attribute tells clippy that its helpers are test code too.
#[cfg(test)]
mod baseline;
#[cfg(test)]
mod blobs;
mod damage;
mod endings;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod leftovers;
mod results;
#[cfg(test)]
mod saving;
mod shared_objects;
mod tasks;
mod workers;
