//! What an operator may choose: flags over environment over file, one list.
//!
//! Two levels: [`RawSettings`] as written, [`Settings`] validated. Only the
//! second is passed on, and each room gets its own slice of it.

mod error;
mod limits;
mod network;
mod raw;
mod resolved;

pub use error::SettingsError;
pub use network::{Address, ConnectionOptions, Credentials, NetworkOptions};
pub use raw::RawSettings;
pub use resolved::{BlobOptions, DrainOptions, PoolOptions, SessionOptions, Settings};
