//! Where an agent listens, and what it asks of callers there.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clutch_access::Keepalive;

use super::{RawSettings, SettingsError};

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket file.
    Path(PathBuf),
    /// A name in the kernel's abstract space; leaves no file.
    Abstract(String),
    /// An abstract name that the agent makes up.
    Private,
    /// TCP; port 0: any that is free.
    Tcp(SocketAddr),
}

/// What callers on TCP have to show, and what the agent shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// On a Unix socket: who they are.
    Peer,
    /// What the file says, which is made when it is not there.
    AccessFile {
        /// The file.
        path: PathBuf,
        /// The agent's address as others reach it; `None`: found out.
        advertise: Option<(String, u16)>,
    },
    /// Certificates of somebody's own authority.
    Own {
        /// Certificates for this agent, its own one first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// Who vouches for callers.
        authority: PathBuf,
        /// What callers show beside.
        token: PathBuf,
    },
    /// A token alone, which is for loopback only.
    Token(PathBuf),
}

/// For the room `service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Connections that have authenticated.
    pub max_connections: usize,
    /// When a silent one is given up.
    pub keepalive: Keepalive,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self { max_connections: 256, keepalive: Keepalive::default() }
    }
}

/// Everything of the network, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Where to listen.
    pub address: Address,
    /// What to ask for there.
    pub credentials: Credentials,
    /// Whose members may use a Unix socket, besides the own user.
    pub group: Option<u32>,
    /// Bounds.
    pub connections: ConnectionOptions,
}

impl NetworkOptions {
    /// Whether others than the agent's own user may come by.
    pub(super) const fn is_for_others(&self) -> bool {
        matches!(self.address, Address::Tcp(_)) || self.group.is_some()
    }
}

/// Validates what concerns the network.
pub(super) fn network(raw: &RawSettings) -> Result<NetworkOptions, SettingsError> {
    let address = address(raw.listen.as_deref())?;
    let credentials = match &address {
        Address::Path(_) | Address::Abstract(_) | Address::Private => Credentials::Peer,
        Address::Tcp(socket) => credentials(raw, socket.ip())?,
    };
    let default = ConnectionOptions::default();
    let max_connections = raw.max_connections.unwrap_or(default.max_connections);
    if max_connections == 0 {
        let reason = "it must be at least 1";
        return Err(SettingsError::value("max-connections", max_connections, reason));
    }
    let Keepalive { interval, timeout } = default.keepalive;
    let keepalive = Keepalive {
        interval: positive("keepalive-seconds", raw.keepalive_seconds, interval)?,
        timeout: positive("keepalive-timeout-seconds", raw.keepalive_timeout_seconds, timeout)?,
    };
    Ok(NetworkOptions {
        address,
        credentials,
        group: raw.allow_group.as_deref().map(group).transpose()?,
        connections: ConnectionOptions { max_connections, keepalive },
    })
}

fn address(written: Option<&str>) -> Result<Address, SettingsError> {
    let written = written.unwrap_or("private");
    let refused = |reason: &str| Err(SettingsError::value("listen", written, reason));
    match written.split_once(':') {
        None if written == "private" => Ok(Address::Private),
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Path(path.into())),
        Some(("unix", _)) => refused("the path must be absolute"),
        Some(("unix-abstract", name)) if !name.is_empty() && name.len() < 100 => {
            Ok(Address::Abstract(name.to_owned()))
        }
        Some(("unix-abstract", _)) => refused("the name must have 1 to 99 bytes"),
        Some(_) => match written.to_socket_addrs().map(|mut found| found.next()) {
            Ok(Some(socket)) => Ok(Address::Tcp(socket)),
            Ok(None) => refused("the host has no address"),
            Err(error) => refused(&format!("{FORMS}: {error}")),
        },
        None => refused(FORMS),
    }
}

const FORMS: &str =
    "expected `unix:/absolute/path`, `unix-abstract:NAME`, `private` or `HOST:PORT`";

/// Which secrets guard a TCP address. None of them: no agent.
fn credentials(raw: &RawSettings, ip: IpAddr) -> Result<Credentials, SettingsError> {
    let refused = |reason: String| {
        let written = raw.listen.as_deref().unwrap_or_default();
        Err(SettingsError::value("listen", written, reason))
    };
    let own = [
        ("tls-certificate", &raw.tls_certificate),
        ("tls-key", &raw.tls_key),
        ("tls-authority", &raw.tls_authority),
        ("token-file", &raw.token_file),
    ];
    let missing: Vec<_> =
        own.iter().filter(|(_, path)| path.is_none()).map(|(key, _)| format!("`{key}`")).collect();
    if let Some(path) = &raw.access_file {
        if missing.len() < own.len() {
            let reason = "give it, or certificates and a token of your own, and not both";
            return Err(SettingsError::value("access-file", path.display(), reason));
        }
        let advertise = raw.advertise.as_deref().map(advertised).transpose()?;
        return Ok(Credentials::AccessFile { path: path.clone(), advertise });
    }
    match own.map(|(_, path)| path.clone()) {
        [Some(certificate), Some(key), Some(authority), Some(token)] => {
            Ok(Credentials::Own { certificate, key, authority, token })
        }
        [None, None, None, Some(token)] if ip.is_loopback() => Ok(Credentials::Token(token)),
        [None, None, None, None] if ip.is_loopback() => refused(
            "every process of this machine, and every web page in its browsers, can reach it: \
             give `access-file`, or at least `token-file`"
                .to_owned(),
        ),
        [None, None, None, None] => refused(
            "others can reach it, so it needs mutual TLS and a token: give `access-file`, which \
             is made when it is not there, or `tls-certificate`, `tls-key`, `tls-authority` and \
             `token-file`"
                .to_owned(),
        ),
        _ => refused(format!(
            "it needs mutual TLS and a token, and {} is missing",
            missing.join(", ")
        )),
    }
}

fn advertised(written: &str) -> Result<(String, u16), SettingsError> {
    let reason = "expected `HOST:PORT`; port 0 is the one that it listens on";
    let refused = || SettingsError::value("advertise", written, reason);
    let address = clutch_access::Address::parse(written).map_err(|_| refused())?;
    let (host, port) = written.rsplit_once(':').ok_or_else(refused)?;
    match port.parse() {
        Ok(port) if address.unix().is_none() => Ok((host.to_owned(), port)),
        Ok(_) | Err(_) => Err(refused()),
    }
}

fn positive(
    key: &'static str,
    value: Option<f64>,
    default: Duration,
) -> Result<Duration, SettingsError> {
    let Some(value) = value else { return Ok(default) };
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err(SettingsError::value(key, value, "it must be more than 0")),
        Err(error) => Err(SettingsError::value(key, value, error.to_string())),
    }
}

/// The group's number.
fn group(written: &str) -> Result<u32, SettingsError> {
    if let Ok(number) = written.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string(Path::new("/etc/group")).unwrap_or_default();
    named_group(&groups, written).ok_or_else(|| {
        let reason = "no such group in /etc/group; a group from elsewhere goes by its number";
        SettingsError::value("allow-group", written, reason)
    })
}

/// From `name:x:number:members`.
fn named_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        found.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(listen: &str) -> RawSettings {
        RawSettings { listen: Some(listen.to_owned()), ..RawSettings::default() }
    }

    fn why(raw: &RawSettings) -> String {
        network(raw).unwrap_err().to_string()
    }

    #[test]
    fn without_secrets_no_port_is_opened() {
        for (listen, named) in [
            ("0.0.0.0:80", "mutual TLS and a token"),
            ("[::]:80", "mutual TLS and a token"),
            ("192.0.2.1:0", "mutual TLS and a token"),
            ("127.0.0.1:0", "every web page"),
            ("localhost:0", "every web page"),
        ] {
            let told = why(&raw(listen));
            assert!(told.starts_with(&format!("setting `listen` cannot be `{listen}`")), "{told}");
            assert!(told.contains(named), "{told}");
        }
    }

    #[test]
    fn a_token_alone_is_for_loopback_only() {
        let token = Some(PathBuf::from("token"));
        let with = |listen| RawSettings { token_file: token.clone(), ..raw(listen) };
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let credentials = network(&with(listen)).unwrap().credentials;
            assert_eq!(credentials, Credentials::Token("token".into()));
        }
        let told = why(&with("0.0.0.0:0"));
        assert!(
            told.contains("`tls-certificate`, `tls-key`, `tls-authority` is missing"),
            "{told}"
        );
    }

    #[test]
    fn an_access_file_does_everywhere_and_not_beside_others() {
        let file = Some(PathBuf::from("cluster.json"));
        let with = |listen| RawSettings { access_file: file.clone(), ..raw(listen) };
        for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let credentials = network(&with(listen)).unwrap().credentials;
            assert!(matches!(credentials, Credentials::AccessFile { .. }), "{credentials:?}");
        }
        let both = RawSettings { token_file: Some("token".into()), ..with("0.0.0.0:0") };
        assert!(why(&both).contains("not both"));
    }

    #[test]
    fn an_address_for_others_has_a_host_and_a_port() {
        assert_eq!(advertised("node-1:0").unwrap(), ("node-1".to_owned(), 0));
        assert_eq!(advertised("[::1]:7").unwrap(), ("[::1]".to_owned(), 7));
        assert!(["node-1", "unix:/x", ":7", "a b:7"].map(advertised).iter().all(Result::is_err));
    }

    #[test]
    fn a_group_goes_by_name_or_number() {
        assert_eq!(group("4711").unwrap(), 4711);
        assert_eq!(group("root").unwrap(), 0);
        assert_eq!(named_group("a:x:1:\nb:x:2:u,v\n", "b"), Some(2));
        assert!(group("no-such-group").unwrap_err().to_string().contains("no-such-group"));
    }
}
