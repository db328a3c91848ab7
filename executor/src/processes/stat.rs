//! One process, as a line of the kernel's describes it.

use crate::identifiers::Pid;

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
    /// It has ended, or is about to: nothing of its program runs any more.
    pub(crate) ending: bool,
    /// A signal stopped it.
    pub(crate) stopped: bool,
    /// Threads, at least 1 while it lives.
    pub(crate) threads: u64,
    /// CPU time of it and of the children that it has waited for, nanoseconds.
    pub(crate) cpu_nanoseconds: u64,
}

/// The flag of a process that ends, in the kernel's `PF_` numbers.
const EXITING: u64 = 4;

impl Stat {
    /// From `7 (a name) S 1 ...`; `None`: it is not that.
    pub(super) fn parse(pid: Pid, text: &[u8]) -> Option<Self> {
        // The name is in parentheses and may hold some itself, and any bytes.
        let name_ends = text.iter().rposition(|byte| *byte == b')')?;
        let fields = std::str::from_utf8(text.get(name_ends + 1..)?).ok()?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // User and system time, first its own, then of those it waited for.
        let ticks = (11..15).filter_map(number).fold(0, u64::saturating_add);
        let zombie = matches!(fields.first(), Some(&("Z" | "X")));
        Some(Self {
            process: Process { pid, started_at: number(19)? },
            parent: Pid(fields.get(1)?.parse().ok()?),
            zombie,
            ending: zombie || number(6)? & EXITING != 0,
            stopped: matches!(fields.first(), Some(&("T" | "t"))),
            threads: number(17)?,
            cpu_nanoseconds: ticks.saturating_mul(TICK_NANOSECONDS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &[u8], state: &str, flags: u32) -> Vec<u8> {
        let rest = format!(") {state} 3 7 7 0 -1 {flags} 0 0 0 0 1 2 3 4 20 0 5 0 999 1 2 3");
        [b"7 (", name, rest.as_bytes()].concat()
    }

    #[test]
    fn no_name_of_a_process_changes_what_is_read() {
        let names: [&[u8]; 6] =
            [b"python", b"a b", b") Z 1 1 (", b"\n7 (x) R 1", b"\xff\xfe)", b"((("];
        for name in names {
            let read = Stat::parse(Pid(7), &stat(name, "T", 4_194_560)).unwrap();
            assert_eq!(read.process, Process { pid: Pid(7), started_at: 999 });
            assert_eq!((read.parent, read.threads), (Pid(3), 5));
            assert_eq!((read.zombie, read.ending, read.stopped), (false, false, true));
            assert_eq!(read.cpu_nanoseconds, 10 * TICK_NANOSECONDS);
        }
    }

    #[test]
    fn who_ends_is_told_from_who_has_ended() {
        let read = |state, flags| {
            let stat = Stat::parse(Pid(7), &stat(b"x", state, flags)).unwrap();
            (stat.ending, stat.zombie)
        };
        assert_eq!(read("R", 4_194_560), (false, false));
        assert_eq!(read("R", 4_194_564), (true, false));
        assert_eq!((read("Z", 0), read("X", 0)), ((true, true), (true, true)));
    }

    #[test]
    fn what_is_cut_off_or_no_number_is_nothing() {
        for text in
            [&b""[..], b"7 (x", b"7 (x)", b"7 (x) R", b"7 (x) R y", &stat(b"x", "R", 0)[..30]]
        {
            assert_eq!(Stat::parse(Pid(7), text), None, "{text:?}");
        }
    }
}
