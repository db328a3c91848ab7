//! What the zygote imports ahead of its workers.

use std::collections::BTreeSet;

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
        packages: packages(py, &warmed.imported)?,
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

/// Versions of the packages that modules are of, by name.
fn packages(py: Python<'_>, modules: &[String]) -> PyResult<Vec<(String, String)>> {
    let names: BTreeSet<_> = modules.iter().map(|name| package_of(name)).collect();
    let versioned = |name: &str| {
        let version = version_here(py, name)?;
        Ok(version.map(|version| (name.to_owned(), version)))
    };
    names.into_iter().filter_map(|name| versioned(name).transpose()).collect()
}

/// `numpy` of `numpy._core.multiarray`.
pub(crate) fn package_of(module: &str) -> &str {
    module.split('.').next().unwrap_or(module)
}

/// The version that an imported package says it has.
pub(crate) fn version_here(py: Python<'_>, package: &str) -> PyResult<Option<String>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let module = modules.call_method1("get", (package,))?;
    let version = module.getattr("__version__").and_then(|version| version.extract());
    Ok(version.ok())
}

fn version(py: Python<'_>, module: &str) -> String {
    let version = py.import(module).and_then(|module| module.getattr("__version__")?.extract());
    version.unwrap_or_default()
}
