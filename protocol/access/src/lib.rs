//! Who may talk to an agent over TCP, and how.
//!
//! An [`AccessFile`] has everything that agents and drivers of one cluster share:
//! an authority, certificates that it signed, a token. From it come the two
//! halves of a connection: [`Access`], with which [`connect`] makes channels, and
//! the [`ServerAccess`] of a listener. Secrets have types of their own, which
//! print nothing and leave memory with their last owner.

mod access;
mod address;
mod authority;
mod channel;
mod error;
mod file;
mod keepalive;
mod rhythm;
mod secret;
mod socket;
mod store;
mod tcp;
mod tls;
mod watched;

pub use access::{Access, Role, ServerAccess};
pub use address::{Address, AddressError};
pub use channel::{Bearer, Channel, ConnectError, connect};
pub use error::AccessError;
pub use file::{AccessFile, Identity};
pub use keepalive::{Keepalive, KeepaliveError};
pub use secret::{SecretText, Token};
pub use socket::Socket;
pub use store::StoredFile;
pub use tcp::prepare;
pub use watched::{ConnectionEnd, End, Watched};

/// The name in the certificates that [`AccessFile::generate`] makes: one for all
/// agents, wherever they run.
pub const SERVER_NAME: &str = "agent.clutch.internal";
