//! Threads: those of this process, and the inner pools of libraries.

use std::collections::HashMap;

use clutch_worker_link::THREAD_VARIABLES;
use pyo3::prelude::*;

use crate::toolbox::Toolbox;

/// Threads of this process.
pub(crate) fn count() -> Result<usize, std::io::Error> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// The environment variables of a worker: `given`, and for the inner pools
/// `threads` where it does not say.
pub(crate) fn variables(given: Vec<(String, String)>, threads: u32) -> HashMap<String, String> {
    let threads = threads.max(1).to_string();
    let mut variables: HashMap<String, String> = THREAD_VARIABLES
        .into_iter()
        .chain(["LOKY_MAX_CPU_COUNT"]) // joblib's count of CPUs for n_jobs=-1
        .map(|name| (String::from(name), threads.clone()))
        .collect();
    variables.insert(String::from("ENABLE_IPC"), String::from("1")); // as loky's workers have it
    variables.extend(given);
    variables
}

/// Limits the pools of libraries that are loaded already: they read their
/// variables in the zygote, where each said 1.
pub(crate) fn limit_pools(
    py: Python<'_>,
    tools: &Toolbox,
    variables: &HashMap<String, String>,
    threads: u32,
) -> PyResult<()> {
    let Some(pools) = &tools.pools else { return Ok(()) };
    for pool in pools.bind(py).getattr("lib_controllers")?.try_iter()? {
        let pool = pool?;
        let api: String = pool.getattr("internal_api")?.extract()?;
        let variable = match api.as_str() {
            "openmp" => "OMP_NUM_THREADS",
            "openblas" => "OPENBLAS_NUM_THREADS",
            "mkl" => "MKL_NUM_THREADS",
            "blis" => "BLIS_NUM_THREADS",
            _ => "",
        };
        // OpenMP takes a list, one number for each level: ours is the first.
        let said = variables.get(variable).and_then(|value| value.split(',').next());
        let limit = said.and_then(|value| value.trim().parse().ok()).unwrap_or(threads).max(1);
        // One at a time rather than by `limit()`: that would also put back
        // what the zygote had when its answer is dropped.
        pool.call_method1("set_num_threads", (limit,))?;
    }
    Ok(())
}
