//! Processes that dead workers left behind: who they are, and their end.

use std::collections::HashMap;
use std::io;

use rustix::process::{Signal, kill_process};

use crate::identifiers::Pid;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) pid: Pid,
    pub(super) parent: Pid,
    /// In clock ticks since the machine began: tells it from a later process of
    /// the same number.
    started: u64,
    /// It has ended, and waits for its parent to notice.
    ended: bool,
    /// It has ended, or is about to: nothing of its program runs any more.
    ending: bool,
}

/// The flag of a process that ends, in the kernel's `PF_` numbers.
const EXITING: u32 = 4;

/// Every process of the machine.
///
/// # Errors
/// When there is no `/proc`.
pub(super) fn processes() -> io::Result<Vec<Entry>> {
    let names =
        std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| look(Pid(name.parse().ok()?))).collect())
}

/// One process; `None`: it is gone.
fn look(pid: Pid) -> Option<Entry> {
    parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a child that nobody has waited for yet is ending by itself.
pub(super) fn is_ending(child: Pid) -> bool {
    look(child).is_none_or(|entry| entry.ending)
}

/// From `7 (a name) S 1 ...`, where the name can be anything.
fn parse(pid: Pid, stat: &str) -> Option<Entry> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = Pid(fields.next()?.parse().ok()?);
    let flags: u32 = fields.nth(4)?.parse().ok()?;
    let started = fields.nth(12)?.parse().ok()?;
    let ended = matches!(state, "Z" | "X");
    Some(Entry { pid, parent, started, ended, ending: ended || flags & EXITING != 0 })
}

/// Those children of `parent` that nobody knows, and all below them, as far as
/// they still live.
pub(super) fn strangers(all: &[Entry], parent: Pid, is_known: impl Fn(Pid) -> bool) -> Vec<Entry> {
    let mut below: HashMap<Pid, Vec<Entry>> = HashMap::new();
    for entry in all {
        below.entry(entry.parent).or_default().push(*entry);
    }
    let mut found = below.remove(&parent).unwrap_or_default();
    found.retain(|entry| !is_known(entry.pid));
    let mut next = 0;
    while let Some(entry) = found.get(next) {
        // Removed, so that a table that was read while it changed has no rings.
        let children = below.remove(&entry.pid).unwrap_or_default();
        found.extend(children);
        next += 1;
    }
    found.retain(|entry| !entry.ended);
    found
}

/// Whether this is a resource tracker of Python's or loky's. It removes what its
/// process left behind, and then ends by itself.
pub(super) fn is_resource_tracker(orphan: &Entry) -> bool {
    let arguments = std::fs::read(format!("/proc/{}/cmdline", orphan.pid)).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments);
    arguments.split('\0').any(|argument| {
        argument.starts_with("from ") && argument.contains(".resource_tracker import main")
    })
}

/// Kills it, unless its number belongs to another process by now.
pub(super) fn kill(entry: &Entry) {
    if look(entry.pid).is_none_or(|now| now.started != entry.started) {
        return;
    }
    let pid = i32::try_from(entry.pid.0).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::KILL)) {
        tracing::debug!(pid = %entry.pid, %error, "an orphan is gone already");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    fn process(pid: u32, parent: u32) -> Entry {
        Entry { pid: Pid(pid), parent: Pid(parent), started: 0, ended: false, ending: false }
    }

    fn found(all: &[Entry], known: &[u32]) -> Vec<u32> {
        strangers(all, Pid(1), |pid| known.contains(&pid.0)).iter().map(|e| e.pid.0).collect()
    }

    #[test]
    fn strangers_are_found_with_all_that_is_below_them_and_the_known_are_not() {
        let all = [(10, 1), (11, 10), (20, 1), (21, 20), (22, 21), (30, 2)];
        let mut all = all.map(|(pid, parent)| process(pid, parent));
        assert_eq!(found(&all, &[10]), [20, 21, 22]);
        assert_eq!(found(&all, &[10, 20]), [0_u32; 0]);
        all[2].ended = true;
        assert_eq!(found(&all, &[10]), [21, 22], "what has ended is not killed");
    }

    #[test]
    fn a_table_that_changed_while_it_was_read_is_no_endless_loop() {
        let all = [process(10, 1), process(11, 12), process(12, 11), process(10, 10)];
        assert_eq!(found(&all, &[]), [10, 10]);
    }

    #[test]
    fn a_name_can_be_anything() {
        let rest = "3 3 3 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 9";
        let entry = parse(Pid(7), &format!("7 (a) b) Z 5) S {rest}")).unwrap();
        assert_eq!((entry.parent, entry.started, entry.ended), (Pid(3), 4711, false));
        assert!(!entry.ending);
        assert!(parse(Pid(7), &format!("7 (x) Z {rest}")).unwrap().ended);
        let exiting = parse(Pid(7), &format!("7 (x) R {}", rest.replace("4194560", "4194564")));
        assert!(exiting.is_some_and(|entry| entry.ending && !entry.ended));
        assert_eq!(parse(Pid(7), "7 (x) S"), None);
    }

    #[test]
    fn this_process_is_among_all_and_under_its_parent() {
        let me = Pid(std::process::id());
        let parent = Pid(std::os::unix::process::parent_id());
        let found = processes().unwrap().into_iter().find(|entry| entry.pid == me).unwrap();
        assert_eq!((found.parent, found.ended), (parent, false));
    }

    #[test]
    fn resource_trackers_are_told_from_others() {
        for (script, tracks) in [
            ("from multiprocessing.resource_tracker import main;main(5)", true),
            ("from joblib.externals.loky.backend.resource_tracker import main; main(4)", true),
            ("import resource_tracker", false),
        ] {
            let mut command = Command::new("sh");
            command.args(["-c", "echo here; read x; :", script]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // A process has its arguments only when it runs.
            let mut here = [0; 5];
            child.stdout.as_mut().unwrap().read_exact(&mut here).unwrap();
            assert_eq!(is_resource_tracker(&look(Pid(child.id())).unwrap()), tracks, "{script}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn another_process_of_the_same_number_is_spared() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let entry = look(Pid(child.id())).unwrap();
        assert!(!is_ending(entry.pid));
        kill(&Entry { started: entry.started + 1, ..entry });
        assert!(child.try_wait().unwrap().is_none());
        kill(&entry);
        assert!(!child.wait().unwrap().success());
        assert!(is_ending(entry.pid));
    }
}
