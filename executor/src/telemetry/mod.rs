//! What an operator can see: structured logs on standard error.

use tracing_subscriber::EnvFilter;

use crate::settings::SettingsError;

/// Starts logging.
///
/// # Errors
/// [`SettingsError::Value`] when the filter is not one.
pub(crate) fn start(filter: &str) -> Result<(), SettingsError> {
    let refused = |reason: String| SettingsError::value("log", filter, reason);
    let parsed = EnvFilter::try_new(filter).map_err(|error| refused(error.to_string()))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Otherwise it would print that it cannot write, which panics where
        // standard error itself cannot be written to: on a full disk.
        .log_internal_errors(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|error| refused(error.to_string()))
}
