//! The store of big arguments and results: bytes behind descriptors, in shared
//! memory up to a budget and on disk above it.
//!
//! Nothing here has a name in a file system, so nothing has to be swept: what
//! no process holds any more is gone, also after `kill -9` of everything.

mod adopt;
mod arrival;
mod blob;
mod buffers;
mod fetch;
mod filling;
mod held;
pub mod ledger;
mod obtain;
mod plan;
mod reader;
mod space;
mod store;

pub(crate) use adopt::AdoptError;
pub(crate) use blob::Blob;
pub(crate) use buffers::{Buffers, Piece, end_of};
pub(crate) use fetch::{Asked, Parts, PeerError, Peers, Wanted};
pub(crate) use filling::{FillError, Filling};
pub(crate) use held::{BatchBlobs, Held, Mapped, Releases};
pub(crate) use ledger::Digest;
pub(crate) use obtain::Obtained;
pub(crate) use reader::{ReadError, Reader};
pub(crate) use store::Store;
