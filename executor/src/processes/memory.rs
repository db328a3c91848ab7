//! What the kernel writes of memory, of a process and of the machine.

/// Bytes from a line such as `VmData: 149288 kB`. The kernel escapes line
/// breaks in the name of a process, so no other line can be forged.
pub(super) fn kibibytes(status: &[u8], key: &str) -> Option<u64> {
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
pub(super) fn own_memory(smaps: &[u8]) -> u64 {
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
        assert_eq!(own_memory(smaps), (307 + 2 + 10 + 21 + 4) * 1024);
    }
}
