//! Removing groups: possible only once the last process in them has ended.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files;

/// How long a killed process may take to end.
const LONGEST: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// Removes groups, now if that is possible, else a little later and behind the
/// caller's back.
pub(super) fn remove_soon(groups: Vec<PathBuf>) {
    let busy: Vec<_> = groups.into_iter().filter(|group| !try_remove(group)).collect();
    if busy.is_empty() {
        return;
    }
    let waiting = std::thread::Builder::new().name("clutch-groups".to_owned()).spawn(move || {
        for group in busy {
            if !remove_within(&group, LONGEST) {
                tracing::warn!(group = %group.display(), "a group does not become empty");
            }
        }
    });
    if let Err(error) = waiting {
        // The agent's end, or the next one's start, removes them.
        tracing::warn!(%error, "nobody waits for groups to become empty");
    }
}

/// Removes a group as soon as that is possible, and waits for that; tells
/// whether there was time enough.
pub(super) fn remove_within(group: &Path, longest: Duration) -> bool {
    let end = Instant::now() + longest;
    while !try_remove(group) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// Whether there is no more to do.
fn try_remove(group: &Path) -> bool {
    match files::remove(group) {
        Ok(()) => true,
        Err(error) if is_busy(&error) => false,
        Err(error) => {
            tracing::warn!(%error, "a group is left behind");
            true
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    // Not empty: a task made a group below it a moment ago.
    matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty)
}
