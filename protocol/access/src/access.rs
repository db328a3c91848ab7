//! Credentials made ready for use.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::{AccessError, AccessFile, Identity, Token, tls};

/// As whom a file is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An agent that calls another one.
    Agent,
    /// A driver, or an operator.
    Driver,
}

/// What who connects shows.
#[derive(Clone)]
pub struct Access {
    pub(crate) token: Token,
    /// `None`: plain text.
    pub(crate) tls: Option<ClientTls>,
}

#[derive(Clone)]
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    /// `None`: the host's own.
    pub(crate) server_name: Option<ServerName<'static>>,
}

impl Access {
    /// Takes from a file what this role shows.
    ///
    /// # Errors
    /// When the file lacks it, or it cannot be used.
    pub fn new(file: &AccessFile, role: Role) -> Result<Self, AccessError> {
        let token = file.token.clone();
        let Some(authority) = &file.authority else { return Ok(Self { token, tls: None }) };
        let own = match role {
            Role::Agent => file.agent.as_ref(),
            Role::Driver => file.driver.as_ref().or(file.agent.as_ref()),
        };
        let own = own.ok_or(match role {
            Role::Agent => NO_AGENT,
            Role::Driver => {
                AccessError::Missing("the access file has no certificate for drivers (`driver`)")
            }
        })?;
        let server_name = file.server_name.clone().map(ServerName::try_from).transpose();
        let server_name =
            server_name.map_err(|error| AccessError::unusable("the server's name", error))?;
        let config = Arc::new(tls::client(authority, own)?);
        Ok(Self { token, tls: Some(ClientTls { config, server_name }) })
    }

    /// Whether connections are under TLS.
    pub const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }
}

const NO_AGENT: AccessError = AccessError::Missing(
    "the access file has no certificate for agents (`agent`): it is a copy for drivers",
);

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encrypted = self.is_encrypted();
        formatter.debug_struct("Access").field("encrypted", &encrypted).finish_non_exhaustive()
    }
}

/// What a listener asks of who connects.
#[derive(Clone)]
pub struct ServerAccess {
    /// What callers have to show.
    pub token: Token,
    /// `None`: plain text, which is for loopback only.
    pub tls: Option<Arc<ServerConfig>>,
}

impl ServerAccess {
    /// Takes an agent's side from a file.
    ///
    /// # Errors
    /// When the file lacks it, or it cannot be used.
    pub fn new(file: &AccessFile) -> Result<Self, AccessError> {
        let tls = match &file.authority {
            None => None,
            Some(authority) => {
                let own: &Identity = file.agent.as_ref().ok_or(NO_AGENT)?;
                Some(Arc::new(tls::server(authority, own)?))
            }
        };
        Ok(Self { token: file.token.clone(), tls })
    }
}

impl fmt::Debug for ServerAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encrypted = self.tls.is_some();
        let mut shown = formatter.debug_struct("ServerAccess");
        shown.field("encrypted", &encrypted).finish_non_exhaustive()
    }
}
