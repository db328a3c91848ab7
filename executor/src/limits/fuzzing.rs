//! What the kernel writes of groups, for `executor/fuzz`.

use super::cgroup::fuzzing::hierarchies;

/// Takes in both files that tell where this process's groups are, one after
/// the other with a zero byte between them.
pub fn group_files(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (own, mounts) = text.split_once('\0').unwrap_or((&text, &text));
    hierarchies(own, mounts);
}
