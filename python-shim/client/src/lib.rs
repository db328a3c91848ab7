//! A driver's side of the conversation with an agent: sessions, batches,
//! outcomes and blobs.
//!
//! Knows nothing of Python: a batch carries a token of the driver's choice,
//! which comes back with its ending. One thread per process, [`runtime`], does
//! all the network; the others hand it messages and take what arrived.

mod call;
mod conversation;
mod courier;
mod data_line;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshake;
mod inbox;
mod link;
mod office;
mod outbox;
mod output;
mod patience;
pub mod placement;
mod reconnect;
mod row;
mod runtime;
mod session;
mod upload;

pub use call::{Batch, Buffers, Call, Ended, Ending, Leg, Outcome, ResultBlob, Value};
pub use clutch_access::{Access, AccessError, Address, AddressError, Role, StoredFile};
pub use courier::Errand;
pub use handshake::OpenError;
pub use office::Office;
pub use output::{LinkEvent, News, Outputs};
pub use row::{Agent, Noted, Row, Rows};
pub use session::{BlobError, CallOptions, Lost, Session};
pub use upload::{Digest, Named, digest};
