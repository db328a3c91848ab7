//! What an operator may choose: flags over environment over file, one list.
//!
//! Two levels: [`RawSettings`] as written, [`Settings`] validated. Only the
//! second is passed on, and each room gets its own slice of it.

mod error;
mod limits;
mod raw;
mod resolved;

pub use error::SettingsError;
pub use raw::RawSettings;
pub use resolved::{
    Address, BlobOptions, DrainOptions, PoolOptions, SessionOptions, Settings, ShareOptions,
};
