//! One client's lease: what it may say, how much it may hold, and where its
//! outcomes go.

mod blobs;
mod ceilings;
mod code;
mod command;
mod inbox;
mod offers;
mod outbox;
mod quota;
mod share;

pub(crate) use blobs::{BlobUses, LineGuard, SessionBlobs};
pub(crate) use ceilings::Ceilings;
pub(crate) use code::CodeUse;
pub(crate) use command::{Batch, CallSettings, CodeArchive, Command, Profile};
pub(crate) use inbox::{Inbox, Said, Violation};
pub(crate) use offers::{Offer, Offered};
pub(crate) use outbox::{Outbox, OutboxReceiver, Sent, outbox};
pub(crate) use quota::{Charge, Quota};
pub(crate) use share::share;
