//! Credentials from files of their own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clutch_access::{AccessError, SecretText, Token};
use zeroize::Zeroizing;

/// What everybody may know.
pub(crate) fn read(path: &Path) -> Result<String, AccessError> {
    std::fs::read_to_string(path).map_err(failed(path))
}

/// What its owner alone may read.
pub(crate) fn secret(path: &Path) -> Result<SecretText, AccessError> {
    let mode = std::fs::metadata(path).map_err(failed(path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(AccessError::OpenToOthers { path: path.to_owned(), mode });
    }
    read(path).map(SecretText::new)
}

/// A token, with or without white space around.
pub(crate) fn read_token(path: &Path) -> Result<Token, AccessError> {
    let text = secret(path)?;
    let text = Zeroizing::new(text.expose().trim().to_owned());
    Token::parse(text.as_bytes())
        .map_err(|error| AccessError::Unusable { what: "the token", why: error.to_string() })
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> AccessError {
    let path = path.to_owned();
    move |source| AccessError::File { doing: "read", path, source }
}
