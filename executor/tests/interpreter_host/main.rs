//! Zygotes and workers of a real interpreter, seen from the agent's side.
//!
//! Needs `CLUTCH_TEST_PYTHON`, an environment with numpy, joblib, cloudpickle
//! and threadpoolctl, and a built `libclutch_interpreter.so`.

mod endings;
mod harness;
mod tasks;
mod workers;
