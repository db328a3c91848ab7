//! What the agent must know of a Python environment before it starts a zygote.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An environment that can be hosted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PythonEnvironment {
    /// Its interpreter, as the operator named it.
    pub(crate) executable: PathBuf,
    /// For example `3.11.7`.
    pub(crate) python_version: String,
    /// `sys.implementation.name`.
    pub(crate) implementation: String,
    /// The shared library to load.
    pub(crate) libpython: PathBuf,
}

/// Why an environment cannot be hosted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// The interpreter does not run.
    #[error("cannot run `{executable}`")]
    NotRunnable {
        executable: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The interpreter did not answer the questions put to it.
    #[error("`{executable}` is not a usable Python interpreter: {answer}")]
    NotPython { executable: PathBuf, answer: String },
    /// The interpreter is too old.
    #[error("`{executable}` is Python {version}; 3.10 or later is needed")]
    TooOld { executable: PathBuf, version: String },
    /// The interpreter was built without a shared library.
    #[error(
        "`{executable}` has no shared libpython (looked for {looked_for}); install the package \
         that holds it, or use a Python built with --enable-shared"
    )]
    NoLibrary { executable: PathBuf, looked_for: String },
}

/// One answer a line; needs nothing but the standard library, and runs without
/// `site`, so that it takes a few milliseconds.
const QUESTIONS: &str = "\
import os, sys, sysconfig
v = lambda name: sysconfig.get_config_var(name) or ''
print('.'.join(map(str, sys.version_info[:3])))
print(sys.implementation.name)
print(v('INSTSONAME') or v('LDLIBRARY'))
print(os.pathsep.join([v('LIBDIR'), os.path.join(v('LIBDIR'), v('MULTIARCH')),
                       os.path.join(sys.base_prefix, 'lib'), v('LIBPL')]))
";

/// Asks an interpreter what it is.
///
/// # Errors
/// [`EnvironmentError`] when it cannot be hosted.
pub(crate) fn probe(executable: &Path) -> Result<PythonEnvironment, EnvironmentError> {
    let output = Command::new(executable)
        .args(["-I", "-S", "-c", QUESTIONS])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| EnvironmentError::NotRunnable {
            executable: executable.to_owned(),
            source,
        })?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let mut lines = answer.lines();
    let (Some(version), Some(implementation), Some(library), Some(folders)) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().last().unwrap_or("it printed nothing").to_owned();
        return Err(EnvironmentError::NotPython {
            executable: executable.to_owned(),
            answer: last,
        });
    };
    if !at_least_3_10(version) {
        return Err(EnvironmentError::TooOld {
            executable: executable.to_owned(),
            version: version.to_owned(),
        });
    }
    let folders = std::env::split_paths(folders).filter(|folder| folder.is_absolute());
    let candidates: Vec<_> = folders.map(|folder| folder.join(library)).collect();
    let shared = |path: &&PathBuf| library.contains(".so") && path.is_file();
    let Some(libpython) = candidates.iter().find(shared) else {
        return Err(EnvironmentError::NoLibrary {
            executable: executable.to_owned(),
            looked_for: format!("`{library}`"),
        });
    };
    Ok(PythonEnvironment {
        executable: executable.to_owned(),
        python_version: version.to_owned(),
        implementation: implementation.to_owned(),
        libpython: libpython.clone(),
    })
}

fn at_least_3_10(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0_u32));
    let major = parts.next().unwrap_or(0);
    let minor = parts.next().unwrap_or(0);
    (major, minor) >= (3, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(at_least_3_10("3.10.0") && at_least_3_10("3.14.1") && at_least_3_10("4.0.0"));
        assert!(!at_least_3_10("3.9.18") && !at_least_3_10("2.7.18") && !at_least_3_10(""));
    }

    #[test]
    fn what_is_no_python_is_refused_with_its_own_words() {
        let error = probe(Path::new("/bin/false")).unwrap_err();
        assert!(matches!(error, EnvironmentError::NotPython { .. }), "{error:?}");
        let error = probe(Path::new("/no/such/python")).unwrap_err();
        assert!(matches!(error, EnvironmentError::NotRunnable { .. }), "{error:?}");
    }
}
