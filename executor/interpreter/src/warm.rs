//! What the zygote imports ahead of its workers.

use clutch_worker_link::ZygoteHello;
use pyo3::prelude::*;

use crate::{exception, threads};

/// What became of the warm list.
#[derive(Debug, Default)]
pub(crate) struct Warmed {
    imported: Vec<String>,
    failed: Vec<(String, String)>,
    /// Those of `imported` that started threads.
    threading: Vec<String>,
}

/// Imports the modules. One that cannot be imported costs the others nothing.
pub(crate) fn import_all(py: Python<'_>, names: &[String]) -> PyResult<Warmed> {
    let mut warmed = Warmed::default();
    let mut threads = threads::count()?;
    // By name, because that also loads the submodules on the way.
    let import_module = py.import("importlib")?.getattr("import_module")?;
    for name in names {
        match import_module.call1((name,)) {
            Ok(_) => {
                warmed.imported.push(name.clone());
                let now = threads::count()?;
                if now > threads {
                    warmed.threading.push(name.clone());
                }
                threads = now;
            }
            Err(error) => {
                let described = exception::one_line(py, &error);
                warmed.failed.push((name.clone(), described));
            }
        }
    }
    Ok(warmed)
}

/// Introduces the zygote.
pub(crate) fn hello(py: Python<'_>, warmed: Warmed) -> PyResult<ZygoteHello> {
    let sys = py.import("sys")?;
    let version_info = sys.getattr("version_info")?;
    let part = |name: &str| version_info.getattr(name)?.extract::<u32>();
    let (major, minor, micro) = (part("major")?, part("minor")?, part("micro")?);
    Ok(ZygoteHello {
        python_version: format!("{major}.{minor}.{micro}"),
        implementation: sys.getattr("implementation")?.getattr("name")?.extract()?,
        executable: sys.getattr("executable")?.extract()?,
        cloudpickle_version: version(py, "cloudpickle"),
        joblib_version: version(py, "joblib"),
        warm_modules: warmed.imported,
        failed_modules: warmed.failed,
        threading_modules: warmed.threading,
    })
}

/// Makes the pages that children share stay shared: garbage goes, and the
/// collector never again writes into the headers of what stays.
pub(crate) fn settle_memory(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    gc.call_method0("freeze")?;
    Ok(())
}

fn version(py: Python<'_>, module: &str) -> String {
    let version = py.import(module).and_then(|module| module.getattr("__version__")?.extract());
    version.unwrap_or_default()
}
