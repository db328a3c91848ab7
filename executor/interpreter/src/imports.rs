//! Which installed modules a worker's batches import: the agent's next zygote
//! may have them ahead.

use std::collections::HashSet;

use clutch_worker_link::{MAX_IMPORTED, MAX_MODULE_NAME_BYTES};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

/// A process with more names in `sys.modules` makes them up.
const MAX_KNOWN: usize = 32 << 10;

/// Packages carry their tests along; nobody needs them ahead.
const TESTS: [&str; 3] = ["conftest", "test", "tests"];

/// What is known of the imports of this process.
pub(crate) struct Imports {
    /// `sys.modules`.
    modules: Py<PyDict>,
    /// Its length when it was looked at last.
    seen: usize,
    /// Names that are not news any more.
    known: HashSet<String>,
    /// Folders of installed modules, with a slash at the end.
    installed: Vec<String>,
}

impl Imports {
    /// The folders of this environment's installed modules: its standard
    /// library, and what packages are installed into. To be called before
    /// anybody changes `sys.path`.
    pub(crate) fn installed(py: Python<'_>) -> PyResult<Vec<String>> {
        let file: String = py.import("os")?.getattr("__file__")?.extract()?;
        let library = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path: Vec<String> = py.import("sys")?.getattr("path")?.extract()?;
        let packages = path
            .iter()
            .map(|entry| entry.trim_end_matches('/'))
            .filter(|entry| entry.ends_with("/site-packages") || entry.ends_with("/dist-packages"));
        Ok(packages.chain([library]).map(|folder| format!("{folder}/")).collect())
    }

    /// Knows all that is imported now: what the zygote has is no news.
    pub(crate) fn since_now(py: Python<'_>, installed: Vec<String>) -> PyResult<Self> {
        let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
        let known = names(&modules).into_iter().map(|(name, _)| name).collect();
        Ok(Self { seen: modules.len(), modules: modules.unbind(), known, installed })
    }

    /// Names of installed modules that were imported since the last call.
    /// Costs next to nothing when there is nothing new.
    pub(crate) fn news(&mut self, py: Python<'_>) -> Vec<String> {
        let modules = self.modules.bind(py);
        if modules.len() == self.seen || self.known.len() > MAX_KNOWN {
            return Vec::new();
        }
        self.seen = modules.len();
        let mut news = Vec::new();
        for (name, module) in names(modules) {
            if self.known.contains(&name) {
                continue;
            }
            if news.len() < MAX_IMPORTED && is_public(&name) && self.is_installed(&name, &module) {
                news.push(name.clone());
            }
            self.known.insert(name);
        }
        news
    }

    /// Whether a module is what an import of its name would give, from a file
    /// of an installed package. Only real modules are looked at, and past
    /// their own attributes: some run code when they are asked for one.
    fn is_installed(&self, name: &str, module: &Bound<'_, PyAny>) -> bool {
        let Ok(module) = module.cast_exact::<PyModule>() else { return false };
        let Ok(Some(spec)) = module.dict().get_item("__spec__") else { return false };
        let text = |key: &str| spec.getattr(key).and_then(|value| value.extract::<String>()).ok();
        text("name").is_some_and(|own| own == name)
            && text("origin").is_some_and(|origin| {
                self.installed.iter().any(|folder| origin.starts_with(folder.as_str()))
            })
    }
}

/// What `sys.modules` has now, but for keys that are no text.
fn names<'py>(modules: &Bound<'py, PyDict>) -> Vec<(String, Bound<'py, PyAny>)> {
    // A copy: looking at a module may import another.
    let items = modules.items();
    items.iter().filter_map(|item| item.extract().ok()).collect()
}

/// Whether others may import it: no part of the name is private or a test.
fn is_public(name: &str) -> bool {
    name.len() <= MAX_MODULE_NAME_BYTES
        && name.split('.').all(|part| !part.starts_with('_') && !TESTS.contains(&part))
}
