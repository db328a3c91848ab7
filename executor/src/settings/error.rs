//! Why settings are refused: which one, which value, and why.

use std::path::PathBuf;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings file `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key that is no setting.
    #[error("settings file `{path}` is not valid")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("setting `{key}` cannot be `{value}`: {reason}")]
    Value {
        /// The setting's name.
        key: &'static str,
        /// The value as written.
        value: String,
        /// Why not.
        reason: String,
    },
}

impl SettingsError {
    pub(crate) fn value(
        key: &'static str,
        value: impl std::fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        Self::Value { key, value: value.to_string(), reason: reason.into() }
    }
}
