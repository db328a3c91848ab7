//! Groups of agents that were killed before they could remove them.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::files::{groups_below, processes};
use super::killer::chase;
use super::removal::{remove_soon, remove_within};
use crate::limits::instance::Instance;

/// How long an agent's start may wait for what was killed to end.
const LONGEST: Duration = Duration::from_millis(200);

/// Removes groups of dead agents that are right below this one, and kills what
/// still runs in them; gives how many there were. Touches nothing else.
pub(super) fn sweep(own: &Path) -> usize {
    let mut swept = 0;
    for group in groups_below(own) {
        let name = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if Instance::of_name(name).is_none_or(Instance::is_alive) {
            continue;
        }
        match clear(&group) {
            Ok(true) => swept += 1,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a dead agent's group is left behind"),
        }
    }
    swept
}

/// `false`: it is not what it seemed to be.
fn clear(group: &Path) -> io::Result<bool> {
    // Numbers of processes mean nothing to one in another namespace, nor does
    // the name of its group.
    if processes(group)?.iter().any(|pid| pid.0 == 0) {
        return Ok(false);
    }
    let killed = chase(group, |_| true)?;
    tracing::info!(group = %group.display(), killed, "removing what a dead agent left");
    if !remove_within(group, LONGEST) {
        remove_soon(vec![group.to_owned()]);
    }
    Ok(true)
}
