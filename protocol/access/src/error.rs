//! Why credentials cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// Credentials that cannot be read, written, or made sense of.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file cannot be read or written.
    #[error("cannot {doing} `{path}`")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may look into it.
    #[error(
        "`{path}` holds secrets, and others than its owner may read or write it (mode \
         {mode:04o}): `chmod 600` it, and make a new one if somebody may have looked"
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not what it should be.
    #[error("`{path}` is not an access file: {why}")]
    NotOne {
        /// The file.
        path: PathBuf,
        /// Why; without a value of it.
        why: String,
    },
    /// A part is not there.
    #[error("{0}")]
    Missing(&'static str),
    /// A certificate or key does not do.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// Which one.
        what: &'static str,
        /// Why; without its text.
        why: String,
    },
}

impl AccessError {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    pub(crate) fn unusable(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Unusable { what, why: why.to_string() }
    }
}
