//! What a zygote gives up before it loads anything, and its workers never have.

use rustix::fs::{Gid, Uid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{HostError, HostUser};

/// Becomes that user for good, if there is one; closes this process, and all
/// that it forks, to others of the same user. Whoever it is: no program that it
/// starts has more rights.
///
/// The process has one thread.
pub(super) fn give_up_rights(user: Option<&HostUser>) -> Result<(), HostError> {
    let refused =
        |what| move |error: rustix::io::Errno| HostError::Kernel { what, source: error.into() };
    set_no_new_privs(true).map_err(refused("give up getting more rights"))?;
    let Some(HostUser { uid, gid, groups }) = user else { return Ok(()) };
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    set_thread_groups(&groups).map_err(refused("leave the groups of the agent"))?;
    set_thread_res_gid(gid, gid, gid).map_err(refused("become the group of `worker-user`"))?;
    set_thread_res_uid(uid, uid, uid).map_err(refused("become the `worker-user`"))?;
    // Workers of other sessions are the same user. None may trace another one,
    // nor read its memory, environment or descriptors. A fork inherits that.
    let closed = DumpableBehavior::NotDumpable;
    set_dumpable_behavior(closed).map_err(refused("close itself to others of its user"))
}
