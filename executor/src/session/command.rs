//! What a driver asks for, checked and complete.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Charge;
use crate::blobs::{BatchBlobs, Held};
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::identifiers::{BatchId, CallId, ProfileId};
use crate::limits::Limits;

/// One request of a driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Remember how workers are set up.
    DefineProfile(ProfileId, Profile),
    /// Begin a call.
    OpenCall(CallId, CallSettings),
    /// Run a batch.
    Submit(Batch),
    /// Refuse a batch that the session cannot take.
    Refuse(BatchId, Failure),
    /// End a call.
    CloseCall(CallId),
}

/// How workers are set up.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Environment variables.
    pub(crate) variables: Vec<(String, String)>,
    /// Batches that run at once; `None`: the slots.
    pub(crate) workers: Option<u32>,
    /// Pickled setup for the interpreter host.
    pub(crate) setup: Bytes,
    /// What each worker may use.
    pub(crate) limits: Limits,
    /// Code of the driver, in the order of the search path.
    pub(crate) code: Arc<[CodeArchive]>,
}

/// A zip archive with code of the driver; pinned as long as its profile.
#[derive(Debug)]
pub(crate) struct CodeArchive {
    pub(crate) held: Held,
    /// Its digest in hexadecimal, by the driver's word: where it is unpacked.
    pub(crate) name: String,
    /// Tasks start in the directory into which it is unpacked.
    pub(crate) working_directory: bool,
}

/// What holds for all batches of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallSettings {
    pub(crate) profile: ProfileId,
    /// Batches of it that run at once; `None`: no bound but the slots.
    pub(crate) max_running: Option<u32>,
    /// Nesting level of joblib calls made inside the tasks.
    pub(crate) nesting_level: u32,
    /// Wall time that one task may take.
    pub(crate) task_timeout: Option<Duration>,
    /// CPU time that one task may use.
    pub(crate) task_cpu: Option<Duration>,
    /// How often a batch may be run again, whatever ended it; `None`: as often as
    /// infrastructure failures deserve.
    pub(crate) retries: Option<u32>,
}

/// A whole batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) call: CallId,
    pub(crate) tasks: u32,
    pub(crate) payload: Vec<Bytes>,
    /// Pinned until it ends.
    pub(crate) blobs: Arc<BatchBlobs>,
    pub(crate) queued_at: Monotonic,
    /// Its share of the session's quota, given back when it ends.
    #[expect(dead_code, reason = "held for its end")]
    pub(crate) charge: Charge,
}
