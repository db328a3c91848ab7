//! What the kernel says of one process, below `/proc`.
//!
//! A task may give its processes any name and map files of any name, so
//! nothing here trusts either.

use std::fs;
use std::path::PathBuf;

use crate::identifiers::Pid;

/// Where processes are read.
#[derive(Debug, Clone)]
pub(crate) struct Proc {
    root: PathBuf,
}

/// The kernel counts CPU time for programs in hundredths of a second, on every
/// machine of our kind and whatever it was built with.
const TICK_NANOSECONDS: u64 = 10_000_000;

/// A process that no other is mistaken for when its number is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// Clock ticks from boot to its start.
    pub(crate) started_at: u64,
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(crate) parent: Pid,
    /// It has ended and nobody has waited for it.
    pub(crate) zombie: bool,
    /// A signal stopped it.
    pub(crate) stopped: bool,
    /// Threads, at least 1 while it lives.
    pub(crate) threads: u64,
    /// CPU time of it and of the children that it has waited for, nanoseconds.
    pub(crate) cpu_nanoseconds: u64,
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
        let text = self.read(pid, "stat")?;
        // The name is in parentheses and may hold some itself.
        let name_ends = text.iter().rposition(|byte| *byte == b')')?;
        let fields = std::str::from_utf8(text.get(name_ends + 1..)?).ok()?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // User and system time, first its own, then of those it waited for.
        let ticks = (11..15).filter_map(number).fold(0, u64::saturating_add);
        Some(Stat {
            process: Process { pid, started_at: number(19)? },
            parent: Pid(fields.get(1)?.parse().ok()?),
            zombie: matches!(fields.first(), Some(&("Z" | "X"))),
            stopped: matches!(fields.first(), Some(&("T" | "t"))),
            threads: number(17)?,
            cpu_nanoseconds: ticks.saturating_mul(TICK_NANOSECONDS),
        })
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

    /// All processes.
    pub(super) fn all(&self) -> Vec<Pid> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect()
    }

    /// A count of `/proc/vmstat` or a line of `/proc/meminfo`, whose key has
    /// its colon; kibibytes are left as they are.
    pub(super) fn global(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.root.join(file)).ok()?;
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        found.split_ascii_whitespace().next()?.parse().ok()
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

/// Bytes from a line such as `VmData: 149288 kB`. The kernel escapes line
/// breaks in the name of a process, so no other line can be forged.
fn kibibytes(status: &[u8], key: &str) -> Option<u64> {
    let mut lines = status.split(|byte| *byte == b'\n');
    lines.find_map(|line| amount(line.strip_prefix(key.as_bytes())?))
}

/// Bytes from `  149288 kB`.
fn amount(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    text.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Adds up `smaps`: private memory in proportion to those who still share it
/// since a fork, and shared memory that the agent did not make. Its own is
/// counted where it was asked for, see decision 0020.
fn own_memory(smaps: &[u8]) -> u64 {
    let (mut total, mut map) = (0_u64, Map::default());
    for line in smaps.split(|byte| *byte == b'\n') {
        // Lines about a mapping start with a capital, its first one with its
        // address in small hexadecimal digits.
        if line.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            total = total.saturating_add(map.bytes());
            map = Map::of(line);
        } else if let Some(value) = line.strip_prefix(b"Pss:") {
            map.proportional = amount(value).unwrap_or_default();
        } else if let Some(value) = line.strip_prefix(b"Anonymous:") {
            map.anonymous = amount(value).unwrap_or_default();
        } else if let Some(value) = line.strip_prefix(b"SwapPss:") {
            map.swapped = amount(value).unwrap_or_default();
        }
    }
    total.saturating_add(map.bytes())
}

/// One mapping of a process.
#[derive(Default)]
struct Map {
    shared: Shared,
    proportional: u64,
    anonymous: u64,
    swapped: u64,
}

#[derive(Default)]
enum Shared {
    /// Changes are seen by nobody else.
    #[default]
    No,
    /// Memory that goes when its last user goes, or when its file is removed.
    Memory,
    /// A file, which the kernel can write back; or the agent's memory.
    NotCounted,
}

impl Map {
    /// From `7f12-7f34 rw-s 00000000 00:01 1024    /dev/zero (deleted)`.
    fn of(header: &[u8]) -> Self {
        let header = String::from_utf8_lossy(header);
        let mut words = header.split_ascii_whitespace();
        let shared = words.nth(1).is_some_and(|flags| flags.ends_with('s'));
        let name = words.nth(3).unwrap_or_default();
        let memory = ["/memfd:", "/dev/shm/", "/dev/zero", "/SYSV"];
        let shared = match shared {
            false => Shared::No,
            true if name.starts_with("/memfd:clutch-") => Shared::NotCounted,
            true if memory.iter().any(|start| name.starts_with(start)) => Shared::Memory,
            true => Shared::NotCounted,
        };
        Self { shared, ..Self::default() }
    }

    fn bytes(&self) -> u64 {
        match self.shared {
            // The rest of a private map is the file below it.
            Shared::No => self.proportional.min(self.anonymous).saturating_add(self.swapped),
            Shared::Memory => self.proportional.saturating_add(self.swapped),
            Shared::NotCounted => 0,
        }
    }
}

#[cfg(test)]
mod tests {
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

    fn stat(name: &[u8]) -> Vec<u8> {
        let rest = b" T 3 7 7 0 -1 4 0 0 0 0 1 2 3 4 20 0 5 0 999 1 2 3";
        [b"7 (", name, b")", rest.as_slice()].concat()
    }

    #[test]
    fn no_name_of_a_process_changes_what_is_read() {
        let names: [&[u8]; 6] =
            [b"python", b"a b", b") Z 1 1 (", b"\n7 (x) R 1", b"\xff\xfe)", b"((("];
        for name in names {
            let (_root, proc) = faked(&[("7/stat", &stat(name))]);
            let read = proc.stat(Pid(7)).unwrap();
            assert_eq!(read.process, Process { pid: Pid(7), started_at: 999 });
            assert_eq!((read.parent, read.threads), (Pid(3), 5));
            assert_eq!((read.zombie, read.stopped), (false, true));
            assert_eq!(read.cpu_nanoseconds, 10 * TICK_NANOSECONDS);
        }
    }

    #[test]
    fn what_is_cut_off_or_no_number_is_nothing() {
        for text in [&b""[..], b"7 (x", b"7 (x)", b"7 (x) R", b"7 (x) R y", &stat(b"x")[..30]] {
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
    fn a_part_is_counted_of_what_is_shared_and_nothing_of_blobs_and_files() {
        let smaps = b"7f00-7f10 rw-p 00000000 00:00 0 \nRss: 900 kB\nPss: 300 kB\n\
            Anonymous: 900 kB\nSwapPss: 7 kB\n\
            7f10-7f20 r-xp 00000000 08:01 5    /usr/lib/x.so\nPss: 50 kB\nAnonymous: 2 kB\n\
            7f20-7f30 r--s 00000000 00:01 6    /memfd:clutch-blob (deleted)\nPss: 5000 kB\n\
            7f30-7f40 rw-s 00000000 00:01 7    /dev/shm/psm_1\nPss: 10 kB\n\
            7f40-7f50 rw-s 00000000 00:01 8    /memfd:own (deleted)\nPss: 20 kB\nSwapPss: 1 kB\n\
            7f50-7f60 rw-s 00000000 08:01 9    /home/u/Pss: 1 kB\nPss: 700 kB\n\
            7f60-7f70 rw-p 00000000 00:01 6    /memfd:clutch-blob (deleted)\nPss: 90 kB\n\
            Anonymous: 4 kB\n";
        let (_root, proc) = faked(&[("7/smaps", smaps)]);
        assert_eq!(proc.memory_exactly(Pid(7)), Some((307 + 2 + 10 + 21 + 4) * 1024));
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
}
