//! Where an agent listens.

use std::fmt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;

/// An agent's address.
#[derive(Debug, Clone)]
pub struct Address {
    text: String,
    place: Place,
}

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Unix(SocketAddr),
    /// The host as the resolver takes it: without brackets.
    Tcp {
        host: String,
        port: u16,
    },
}

/// The text names no address.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an agent's address: {why}")]
pub struct AddressError {
    text: String,
    why: String,
}

impl Address {
    /// Reads `unix:/path`, `unix-abstract:name`, `host:port` or `[address]:port`.
    ///
    /// # Errors
    /// When it is none of them, or longer than the kernel takes.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let refused = |why: String| AddressError { text: text.to_owned(), why };
        let place = if let Some(name) = text.strip_prefix("unix-abstract:") {
            SocketAddr::from_abstract_name(name).map(Place::Unix)
        } else if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            SocketAddr::from_pathname(path).map(Place::Unix)
        } else if let Some((host, port)) = host_and_port(text) {
            Ok(Place::Tcp { host, port })
        } else {
            let why = "write unix:/path, unix-abstract:name, host:port or [address]:port";
            return Err(refused(why.to_owned()));
        };
        let place = place.map_err(|error| refused(error.to_string()))?;
        Ok(Self { text: text.to_owned(), place })
    }

    /// The socket, where it is on this machine and has no network in between.
    pub fn unix(&self) -> Option<&SocketAddr> {
        match &self.place {
            Place::Unix(socket) => Some(socket),
            Place::Tcp { .. } => None,
        }
    }

    /// Whether a connection there can break while both ends live. One on the same
    /// machine cannot; where it is a tunnel's, its user knows.
    pub const fn may_break(&self) -> bool {
        matches!(self.place, Place::Tcp { .. })
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = |host: &str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !host.is_empty() && host.bytes().all(word)
    };
    match bracketed {
        Some(address) => {
            address.parse::<std::net::Ipv6Addr>().ok().map(|_| (address.to_owned(), port))
        }
        None => named(host).then(|| (host.to_owned(), port)),
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
    fn every_form_is_read_and_anything_else_is_refused_by_name() {
        assert!(Address::parse("host:1").unwrap().may_break());
        assert!(!Address::parse("unix:/run/clutch.sock").unwrap().may_break());
        let unix = |text| Address::parse(text).unwrap().unix().cloned().unwrap();
        assert!(unix("unix:/run/clutch.sock").as_pathname().is_some());
        assert_eq!(unix("unix-abstract:clutch-x").as_abstract_name(), Some(&b"clutch-x"[..]));
        for (text, host, port) in [
            ("node-7.lan:5125", "node-7.lan", 5125),
            ("[::1]:80", "::1", 80),
            ("1.2.3.4:5", "1.2.3.4", 5),
        ] {
            let Place::Tcp { host: read, port: number } = Address::parse(text).unwrap().place
            else {
                panic!("{text}")
            };
            assert_eq!((read.as_str(), number), (host, port));
        }
        for text in [
            "cluster.json",
            "host",
            "host:",
            ":80",
            "host:65536",
            "host:+1",
            "a/b:80",
            "::1:80",
            "[x]:80",
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert!(Address::parse(&format!("unix:{}", "x".repeat(200))).is_err());
    }
}
