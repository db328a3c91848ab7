//! Where an agent listens.

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

/// An agent's address on this machine.
#[derive(Debug, Clone)]
pub struct Address {
    text: String,
    socket: SocketAddr,
}

/// The text names no address.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an agent's address: {why}")]
pub struct AddressError {
    text: String,
    why: String,
}

impl Address {
    /// Reads `unix:/path` or `unix-abstract:name`.
    ///
    /// # Errors
    /// When it is neither, or longer than the kernel takes.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let refused = |why: String| AddressError { text: text.to_owned(), why };
        let socket = if let Some(name) = text.strip_prefix("unix-abstract:") {
            SocketAddr::from_abstract_name(name)
        } else if let Some(path) = text.strip_prefix("unix:") {
            SocketAddr::from_pathname(path.strip_prefix("//").unwrap_or(path))
        } else {
            return Err(refused("write unix:/path or unix-abstract:name".to_owned()));
        };
        let socket = socket.map_err(|error| refused(error.to_string()))?;
        Ok(Self { text: text.to_owned(), socket })
    }

    /// Whether a connection there can break while both ends live. One on the same
    /// machine cannot; where it is a tunnel's, its user knows.
    pub const fn may_break(&self) -> bool {
        false
    }

    /// Connects; a Unix socket does so at once or not at all.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&self.socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_anything_else_is_refused_by_name() {
        assert!(Address::parse("unix:/run/clutch.sock").unwrap().socket.as_pathname().is_some());
        let socket = Address::parse("unix-abstract:clutch-x").unwrap().socket;
        assert_eq!(socket.as_abstract_name(), Some(b"clutch-x".as_slice()));
        let error = Address::parse("localhost:80").unwrap_err().to_string();
        assert!(error.contains("`localhost:80`"), "{error}");
        assert!(Address::parse(&format!("unix:{}", "x".repeat(200))).is_err());
    }
}
