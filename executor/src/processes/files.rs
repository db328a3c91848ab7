//! What the kernel says of one process, below `/proc`.
//!
//! A task may give its processes any name and map files of any name, so
//! nothing here trusts either.

use std::path::PathBuf;
use std::{fs, io};

use super::memory::{kibibytes, own_memory};
use super::stat::Stat;
use crate::identifiers::Pid;

/// Where processes are read.
#[derive(Debug, Clone)]
pub(crate) struct Proc {
    root: PathBuf,
}

impl Default for Proc {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Proc {
    /// Reads processes below this directory.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `None`: there is no such process.
    pub(crate) fn stat(&self, pid: Pid) -> Option<Stat> {
        Stat::parse(pid, &self.read(pid, "stat")?)
    }

    /// Whether a process is ending by itself, or has ended.
    pub(crate) fn is_ending(&self, pid: Pid) -> bool {
        self.stat(pid).is_none_or(|stat| stat.ending)
    }

    /// All processes there are.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(crate) fn everybody(&self) -> io::Result<Vec<Stat>> {
        let names = fs::read_dir(&self.root)?.flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| self.stat(number(name.to_str()?)?)).collect())
    }

    /// Memory of a process, bytes, at little cost and never too little: what it
    /// shares with others counts in full.
    pub(crate) fn memory_at_most(&self, pid: Pid) -> Option<u64> {
        let status = self.read(pid, "status")?;
        let kinds = ["RssAnon:", "RssShmem:", "VmSwap:"];
        Some(kinds.into_iter().filter_map(|kind| kibibytes(&status, kind)).sum())
    }

    /// Private writable memory that a process has asked for, used or not,
    /// bytes: what `RLIMIT_DATA` bounds.
    pub(crate) fn data_bytes(&self, pid: Pid) -> Option<u64> {
        kibibytes(&self.read(pid, "status")?, "VmData:")
    }

    /// Memory of a process, bytes, with its part of what it shares. Takes about
    /// 5 ms for each GB.
    pub(crate) fn memory_exactly(&self, pid: Pid) -> Option<u64> {
        Some(own_memory(&self.read(pid, "smaps")?))
    }

    /// Whether every thread of a process waits for another one. `false` when
    /// that cannot be told.
    pub(crate) fn waits_for_itself(&self, pid: Pid) -> bool {
        let futex = libc::SYS_futex.to_string();
        let waits = |thread: &PathBuf| {
            let call = fs::read_to_string(thread.join("syscall")).unwrap_or_default();
            call.split(' ').next() == Some(futex.as_str())
        };
        let threads = self.threads(pid);
        !threads.is_empty() && threads.iter().all(waits)
    }

    /// Whether it is one of Python's or loky's resource trackers, which remove
    /// the semaphores of processes that have ended, and then end.
    pub(crate) fn is_resource_tracker(&self, pid: Pid) -> bool {
        let line = self.read(pid, "cmdline").unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| {
            let argument = String::from_utf8_lossy(argument);
            argument.starts_with("from ") && argument.contains(".resource_tracker import main")
        })
    }

    /// Children of a process; `None` on a kernel that does not list them.
    pub(super) fn listed_children(&self, pid: Pid) -> Option<Vec<Pid>> {
        let mut children = Vec::new();
        for thread in self.threads(pid) {
            let listed = fs::read_to_string(thread.join("children")).ok()?;
            children.extend(listed.split_ascii_whitespace().filter_map(number));
        }
        Some(children)
    }

    /// A line of `/proc/meminfo`, whose key has its colon, in bytes.
    pub(crate) fn machine_memory(&self, key: &str) -> Option<u64> {
        kibibytes(&fs::read(self.root.join("meminfo")).ok()?, key)
    }

    fn threads(&self, pid: Pid) -> Vec<PathBuf> {
        let tasks = fs::read_dir(self.root.join(pid.to_string()).join("task"));
        tasks.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    fn read(&self, pid: Pid, file: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join(pid.to_string()).join(file)).ok()
    }
}

fn number(text: &str) -> Option<Pid> {
    text.parse().ok().map(Pid)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    fn faked(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Proc) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let proc = Proc::at(root.path());
        (root, proc)
    }

    #[test]
    fn what_is_cut_off_or_no_number_is_nothing() {
        for text in [&b""[..], b"7 (x", b"7 (x) R y"] {
            let (_root, proc) = faked(&[("7/stat", text), ("7/status", text), ("7/smaps", text)]);
            assert_eq!(proc.stat(Pid(7)), None, "{text:?}");
            assert_eq!(proc.memory_at_most(Pid(7)), Some(0));
            assert_eq!(proc.memory_exactly(Pid(7)), Some(0));
        }
        assert_eq!(Proc::at("/nowhere").memory_at_most(Pid(7)), None);
    }

    #[test]
    fn memory_is_what_is_private_and_shared_and_swapped() {
        let status = b"Name:\tx\\nRssAnon: 9 kB\nVmData:\t  300 kB\nRssAnon:\t  100 kB\n\
            RssFile:\t 50 kB\nRssShmem:\t 20 kB\nVmSwap:\t 3 kB\n";
        let (_root, proc) = faked(&[("7/status", status)]);
        assert_eq!(proc.memory_at_most(Pid(7)), Some(123 * 1024));
        assert_eq!(proc.data_bytes(Pid(7)), Some(300 * 1024));
    }

    #[test]
    fn this_process_is_there() {
        let (proc, me) = (Proc::default(), Pid(std::process::id()));
        let stat = proc.stat(me).unwrap();
        assert!(stat.threads >= 1 && !stat.zombie && stat.process.started_at > 0);
        let (most, exactly) = (proc.memory_at_most(me).unwrap(), proc.memory_exactly(me).unwrap());
        // Other tests allocate meanwhile; a page of a library may be written to.
        assert!(exactly > 1 << 18 && most > 1 << 18, "{exactly} {most}");
        assert!(!proc.waits_for_itself(me) && !proc.is_resource_tracker(me));
    }
    #[test]
    fn this_process_is_among_all_and_under_its_parent() {
        let me = Pid(std::process::id());
        let everybody = Proc::default().everybody().unwrap();
        let found = everybody.into_iter().find(|stat| stat.process.pid == me).unwrap();
        let parent = Pid(std::os::unix::process::parent_id());
        assert_eq!((found.parent, found.zombie), (parent, false));
        assert!(Proc::at("/nowhere").everybody().is_err());
    }

    #[test]
    fn who_has_ended_or_was_never_there_is_ending() {
        let (proc, mut child) = (Proc::default(), Command::new("sleep").arg("60").spawn().unwrap());
        let pid = Pid(child.id());
        assert!(!proc.is_ending(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(proc.is_ending(pid));
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
            assert_eq!(Proc::default().is_resource_tracker(Pid(child.id())), tracks, "{script}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
