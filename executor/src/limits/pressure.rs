//! Whether memory runs short, for all workers together.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::clock::Monotonic;
use crate::machine;
use crate::processes::Proc;

/// Memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// The most that there may be in use, bytes.
    pub(crate) limit: u64,
    /// The most that was in use since it began, bytes.
    pub(crate) peak: u64,
    /// Whether it is as bad now as when it began. Otherwise what runs fits, and
    /// nothing more does.
    pub(crate) acute: bool,
    /// When that was looked at, so that each look is news.
    pub(crate) seen: Monotonic,
}

/// What all workers use together, bytes; `None`: not known.
pub(super) type Usage = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// Where room may run out.
pub(super) enum Room {
    /// Below what the operator gave us.
    Ceiling {
        /// Bytes.
        bytes: u64,
        /// The kernel's count; without it the agent adds up its workers.
        usage: Option<Usage>,
    },
    /// On the machine, or in our container.
    Machine(Machine),
}

/// Where memory of the machine is read.
#[derive(Debug)]
pub(super) struct Machine {
    proc: Proc,
    /// `None`: we may use all there is.
    container: Option<Container>,
}

/// A container's own bound, in files of its control group.
#[derive(Debug)]
struct Container {
    usage: PathBuf,
    stat: PathBuf,
    limit: u64,
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Of what we may use, bytes.
    Ceiling { bytes: u64, used: u64 },
    /// Of what there is, bytes.
    Machine { bytes: u64, available: u64 },
}

/// Tells when a shortage begins and ends.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    short: Option<Shortage>,
}

/// A machine of any size stands still with less.
const LEAST_AVAILABLE_BYTES: u64 = 128 << 20;

impl Pressure {
    /// Takes a look in; gives what holds now. Between the bounds it stays as it
    /// was, so that one batch more or less does not begin and end it.
    pub(super) fn take(&mut self, reading: Reading, seen: Monotonic) -> Option<Shortage> {
        let (limit, used, begins, ends) = match reading {
            Reading::Ceiling { bytes, used } => {
                let begins = used > part(bytes, 95);
                (bytes, used, begins, used < part(bytes, 85))
            }
            Reading::Machine { bytes, available } => {
                let least = part(bytes, 2).max(LEAST_AVAILABLE_BYTES);
                let (limit, used) = (bytes.saturating_sub(least), bytes.saturating_sub(available));
                (limit, used, available < least, available > least.saturating_mul(2))
            }
        };
        let peak = self.short.map_or(used, |shortage| shortage.peak.max(used));
        let short = begins || self.short.is_some() && !ends;
        self.short = short.then_some(Shortage { limit, peak, acute: begins, seen });
        self.short
    }

    /// Whether it is short as far as is known.
    pub(super) const fn is_short(&self) -> bool {
        self.short.is_some()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ceiling { bytes, .. } => write!(out, "Ceiling({bytes})"),
            Self::Machine(machine) => machine.fmt(out),
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        let proc = Proc::default();
        let whole = proc.machine_memory("MemTotal:").unwrap_or(u64::MAX);
        let limit = machine::memory_bytes().filter(|limit| *limit < whole);
        let container =
            limit.and_then(|limit| Container::below(Path::new("/sys/fs/cgroup"), limit));
        Self { proc, container }
    }
}

impl Machine {
    /// `None`: it cannot be told.
    pub(super) fn read(&self) -> Option<Reading> {
        let bytes = self.proc.machine_memory("MemTotal:")?;
        let available = self.proc.machine_memory("MemAvailable:")?;
        let container = self.container.as_ref().and_then(|container| {
            Some((container.limit.min(bytes), container.available()?.min(available)))
        });
        let (bytes, available) = container.unwrap_or((bytes, available));
        Some(Reading::Machine { bytes, available })
    }
}

impl Container {
    /// The files of this container; `None`: there are none to read.
    fn below(root: &Path, limit: u64) -> Option<Self> {
        let first = root.join("memory/memory.usage_in_bytes");
        let second = root.join("memory.current");
        let usage = [first, second].into_iter().find(|file| file.exists())?;
        let stat = usage.with_file_name("memory.stat");
        Some(Self { usage, stat, limit })
    }

    /// What is not in use, or can be had by forgetting files.
    fn available(&self) -> Option<u64> {
        let usage: u64 = std::fs::read_to_string(&self.usage).ok()?.trim().parse().ok()?;
        let stat = std::fs::read_to_string(&self.stat).ok()?;
        // Version 1 has one of each, the second with all groups below it.
        let keys = ["total_inactive_file ", "inactive_file "];
        let cached = keys.iter().find_map(|key| {
            stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())
        });
        Some(self.limit.saturating_sub(usage.saturating_sub(cached.unwrap_or_default())))
    }
}

fn part(bytes: u64, percent: u64) -> u64 {
    // Divided first: no machine is too large for it.
    bytes / 100 * percent
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Monotonic = Monotonic::from_nanoseconds(7);

    #[test]
    fn a_ceiling_is_short_from_95_to_85_percent() {
        let mut pressure = Pressure::default();
        let mut take = |used| pressure.take(Reading::Ceiling { bytes: 1000, used }, SEEN);
        let peaks = [900, 950, 951, 990, 900, 850, 849, 900].map(|used| Some(take(used)?.peak));
        assert_eq!(peaks, [None, None, Some(951), Some(990), Some(990), Some(990), None, None]);
    }

    #[test]
    fn a_machine_is_short_below_two_percent_and_never_without_128_mib() {
        for (bytes, least) in [(100 << 30, 2 << 30), (1 << 30, LEAST_AVAILABLE_BYTES)] {
            let mut pressure = Pressure::default();
            let mut take =
                |available| pressure.take(Reading::Machine { bytes, available }, SEEN).is_some();
            let least = least / 100 * 100;
            let looks = [least * 2, least + 99, least - 99, least + 99, least * 2 + 99, least + 99];
            assert_eq!(looks.map(&mut take), [false, false, true, true, false, false], "{bytes}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let Some(Reading::Machine { bytes, available }) = Machine::default().read() else {
            panic!("no reading");
        };
        assert!(available > 0 && available <= bytes, "{available} of {bytes}");
    }

    #[test]
    fn a_container_counts_without_the_files_it_can_forget() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let available = || Container::below(root.path(), 1000)?.available();
        assert_eq!(available(), None);
        write("memory.current", "700\n");
        assert_eq!(available(), None);
        write("memory.stat", "anon 5\ninactive_file 100\n");
        assert_eq!(available(), Some(400));
        write("memory/memory.usage_in_bytes", "1200");
        write("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n");
        assert_eq!(available(), Some(100));
        write("memory/memory.usage_in_bytes", "-");
        assert_eq!(available(), None);
    }

    #[test]
    fn a_container_bounds_what_there_is() {
        let root = tempfile::tempdir().unwrap();
        let meminfo = "MemTotal:        8 kB\nMemFree: 1 kB\nMemAvailable:   4 kB\n";
        std::fs::write(root.path().join("meminfo"), meminfo).unwrap();
        std::fs::write(root.path().join("memory.current"), "1024").unwrap();
        std::fs::write(root.path().join("memory.stat"), "").unwrap();
        let proc = Proc::at(root.path());
        let read = |limit: Option<u64>| {
            let container = limit.and_then(|limit| Container::below(root.path(), limit));
            Machine { proc: proc.clone(), container }.read()
        };
        let machine = |bytes, available| Some(Reading::Machine { bytes, available });
        assert_eq!(read(None), machine(8192, 4096));
        assert_eq!(read(Some(3000)), machine(3000, 1976));
        assert_eq!(read(Some(7000)), machine(7000, 4096));
    }
}
