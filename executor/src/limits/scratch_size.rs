//! How much a scratch directory holds, measured a piece at a time: however many
//! files a task makes, a look at it stays short.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::scratch_removal::open_directory;
use crate::clock::Monotonic;

/// Measures one directory again and again.
#[derive(Debug, Default)]
pub(super) struct ScratchSize {
    state: State,
    /// The measurement before found more than the limit.
    over: bool,
}

#[derive(Debug)]
enum State {
    /// Not before this instant.
    Rests(Monotonic),
    Measures(Box<Measurement>),
}

#[derive(Debug, Default)]
struct Measurement {
    /// Directories to come, from the measured one.
    pending: Vec<PathBuf>,
    open: Option<(Dir, PathBuf)>,
    bytes: u64,
    /// Files with more than one name that were counted.
    linked: HashSet<(u64, u64)>,
    cost: Duration,
}

/// About 2 ms.
const ENTRIES_AT_ONCE: usize = 1000;
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// Empty files and directories fill a disk, too.
const LEAST_BYTES: u64 = 1024;

impl Default for State {
    fn default() -> Self {
        Self::Rests(Monotonic::default())
    }
}

impl ScratchSize {
    /// Measures on, and gives the size when it is known, bytes. More than
    /// `limit` is believed when it is found twice: a file that moves while it
    /// is measured may count twice.
    pub(super) fn look(&mut self, directory: &OwnedFd, limit: u64, now: Monotonic) -> Option<u64> {
        let mut measurement = match std::mem::take(&mut self.state) {
            State::Rests(until) if now < until => {
                self.state = State::Rests(until);
                return None;
            }
            State::Rests(_) => Box::new(Measurement::of_all()),
            State::Measures(measurement) => measurement,
        };
        let done = measurement.go_on(directory, ENTRIES_AT_ONCE);
        measurement.cost += Monotonic::now().since(now);
        let bytes = measurement.bytes;
        if !done && bytes <= limit {
            self.state = State::Measures(measurement);
            return None;
        }
        let again = bytes > limit && !self.over;
        self.over = bytes > limit;
        let pause = LEAST_PAUSE.max(measurement.cost * 20);
        let pause = if again { Duration::ZERO } else { pause };
        self.state = State::Rests(now.after(pause));
        Some(if again { bytes.min(limit) } else { bytes })
    }
}

impl Measurement {
    fn of_all() -> Self {
        Self { pending: vec![PathBuf::from(".")], ..Self::default() }
    }

    /// Looks at so many entries at most; `true`: that was all.
    fn go_on(&mut self, top: &OwnedFd, entries: usize) -> bool {
        for _ in 0..entries {
            let Some((open, path)) = &mut self.open else {
                let Some(path) = self.pending.pop() else { return true };
                // What is gone, or too deep for a path, is not counted.
                let opened = open_directory(top, &path).and_then(Dir::new);
                self.open = opened.ok().map(|open| (open, path));
                continue;
            };
            let Some(Ok(entry)) = open.read() else {
                self.open = None;
                continue;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let inner = path.join(Path::new(OsStr::from_bytes(name.to_bytes())));
            self.count(top, inner);
        }
        false
    }

    fn count(&mut self, top: &OwnedFd, path: PathBuf) {
        let Ok(stat) = statat(top, &path, AtFlags::SYMLINK_NOFOLLOW) else { return };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !directory && stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        let bytes = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512);
        self.bytes = self.bytes.saturating_add(bytes.max(LEAST_BYTES));
        if directory {
            self.pending.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_nanoseconds(Monotonic::now().nanoseconds() + milliseconds * 1_000_000)
    }

    fn measured(path: &Path) -> u64 {
        let top = open_directory(CWD, path).unwrap();
        let mut measurement = Measurement::of_all();
        while !measurement.go_on(&top, 3) {}
        measurement.bytes
    }

    #[test]
    fn files_count_once_and_what_links_lead_to_not_at_all() {
        let (base, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = base.path();
        fs::write(outside.path().join("big"), vec![1; 1 << 20]).unwrap();
        assert_eq!(measured(path), 0);
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/file"), vec![1; 64 << 10]).unwrap();
        let size = measured(path);
        // Two directories, of one block at most, or none.
        assert!((64 << 10..=80 << 10).contains(&size), "{size}");
        fs::hard_link(path.join("a/b/file"), path.join("again")).unwrap();
        assert_eq!(measured(path), size);
        symlink(outside.path(), path.join("directory")).unwrap();
        symlink(outside.path().join("big"), path.join("big")).unwrap();
        symlink(".", path.join("self")).unwrap();
        assert_eq!(measured(path), size + 3 * LEAST_BYTES);
    }

    #[test]
    fn files_without_content_and_holes_count_a_little() {
        let base = tempfile::tempdir().unwrap();
        for name in 0..50 {
            fs::write(base.path().join(name.to_string()), "").unwrap();
        }
        fs::File::create(base.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
        let size = measured(base.path());
        assert!((51 * LEAST_BYTES..1 << 20).contains(&size), "{size}");
    }

    #[test]
    fn too_much_is_believed_the_second_time_and_then_there_is_a_pause() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("file"), vec![1; 64 << 10]).unwrap();
        let top = open_directory(CWD, base.path()).unwrap();
        let mut size = ScratchSize::default();
        assert_eq!(size.look(&top, 1000, at(0)), Some(1000));
        assert!(size.look(&top, 1000, at(1)).is_some_and(|bytes| bytes >= 64 << 10));
        assert_eq!(size.look(&top, 1000, at(2)), None);
        // Later than any machine takes twenty times what the look took.
        let later = at(3_600_000);
        assert!(size.look(&top, 1 << 30, later).is_some_and(|bytes| bytes >= 64 << 10));
        assert_eq!(size.look(&top, 1000, later), None);
    }

    #[test]
    fn many_files_are_measured_in_several_looks() {
        let base = tempfile::tempdir().unwrap();
        for name in 0..ENTRIES_AT_ONCE {
            fs::write(base.path().join(name.to_string()), "").unwrap();
        }
        let top = open_directory(CWD, base.path()).unwrap();
        let mut size = ScratchSize::default();
        assert_eq!(size.look(&top, u64::MAX, at(0)), None);
        let bytes = size.look(&top, u64::MAX, at(1)).unwrap();
        assert!(bytes >= ENTRIES_AT_ONCE as u64 * LEAST_BYTES, "{bytes}");
    }
}
