//! Removes a directory that somebody else filled.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, ResolveFlags, chmodat, fchmod, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;

/// Opens a directory that is none of these: a link, something else.
pub(super) fn open_directory(parent: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(parent, path, FLAGS, Mode::empty())
}

const FLAGS: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// Directories are entered so deep; one that is deeper is moved up first.
const DEEPEST: u32 = 16;
/// Names that are read at once.
const NAMES_AT_ONCE: usize = 10_000;

/// Removes a directory and all that is in it. Follows no link, enters no other
/// file system, and needs few descriptors and little stack however deep the
/// directories are. Takes as long as they have files.
///
/// # Errors
/// The last thing that could not be removed, once nothing else can be.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<()> {
    remove(parent, name, None)
}

/// The same, but only until an instant.
///
/// # Errors
/// As of [`remove_tree`]; `ETIME` when something is left at that instant.
pub(super) fn remove_tree_until(
    parent: BorrowedFd<'_>,
    name: &Path,
    end: Instant,
) -> rustix::io::Result<()> {
    remove(parent, name, Some(end))
}

fn remove(parent: BorrowedFd<'_>, name: &Path, end: Option<Instant>) -> rustix::io::Result<()> {
    let top = open_directory(parent, name)?;
    let mut removal = Removal { top: top.as_fd(), end, moved: 0, changes: 0, obstacle: None };
    loop {
        let before = removal.changes;
        removal.clear(top.as_fd(), 0)?;
        match removal.obstacle.take() {
            None => break,
            Some(obstacle) if removal.changes == before => return Err(obstacle),
            Some(_) => {}
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// When to give up.
    end: Option<Instant>,
    /// Directories that were moved up, for their names.
    moved: u64,
    /// What was removed or moved.
    changes: u64,
    /// Why another pass is needed.
    obstacle: Option<Errno>,
}

impl Removal<'_> {
    /// Removes what is in a directory.
    fn clear(&mut self, directory: BorrowedFd<'_>, depth: u32) -> rustix::io::Result<()> {
        let names = names(directory)?;
        if names.len() == NAMES_AT_ONCE {
            self.obstacle = Some(Errno::AGAIN);
        }
        for name in names {
            if self.end.is_some_and(|end| Instant::now() >= end) {
                return Err(Errno::TIME);
            }
            let done = match unlinkat(directory, name.as_c_str(), AtFlags::empty()) {
                Err(Errno::ISDIR) if depth < DEEPEST => self.descend(directory, &name, depth),
                Err(Errno::ISDIR) => self.move_up(directory, &name),
                done => done,
            };
            match done {
                Ok(()) => self.changes += 1,
                Err(Errno::NOENT) => {}
                Err(error) => self.obstacle = Some(error),
            }
        }
        Ok(())
    }

    fn descend(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        depth: u32,
    ) -> rustix::io::Result<()> {
        let inner = enter(directory, name)?;
        self.clear(inner.as_fd(), depth + 1)?;
        unlinkat(directory, name, AtFlags::REMOVEDIR)
    }

    fn move_up(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        // To be moved it must be writable.
        chmodat(directory, name, Mode::RWXU, AtFlags::empty()).ok();
        loop {
            self.moved += 1;
            let to = format!("clutch-{}", self.moved);
            match renameat(directory, name, self.top, to) {
                // Somebody used that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                moved => return moved.inspect(|()| self.obstacle = Some(Errno::AGAIN)),
            }
        }
    }
}

fn enter(directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let alone = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = || match openat2(directory, name, FLAGS, Mode::empty(), alone) {
        // Sandboxes do not know this call; few of them can mount.
        Err(Errno::NOSYS) => openat(directory, name, FLAGS, Mode::empty()),
        opened => opened,
    };
    let inner = open().or_else(|_| {
        chmodat(directory, name, Mode::RWXU, AtFlags::empty())?;
        open()
    })?;
    fchmod(&inner, Mode::RWXU)?;
    Ok(inner)
}

fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if names.len() == NAMES_AT_ONCE {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkdirat};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn directories_may_be_deeper_than_a_path_can_say() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep");
        fs::create_dir(&path).unwrap();
        let mut at = open_directory(CWD, &path).unwrap();
        let name = "directory-with-a-long-name";
        for _ in 0..300 {
            mkdirat(&at, name, Mode::RWXU).unwrap();
            at = open_directory(&at, Path::new(name)).unwrap();
        }
        drop(at);
        remove_tree(CWD, &path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn names_of_ours_and_closed_directories_are_in_nobodys_way() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("full");
        for inner in ["clutch-1/clutch-1/x", "clutch-2/y/z", "a/clutch-1/b", "a/c/d", "e/f/g"] {
            fs::create_dir_all(path.join(inner)).unwrap();
            fs::write(path.join(inner).join("file"), "x").unwrap();
        }
        fs::write(path.join("clutch-3"), "x").unwrap();
        symlink("/", path.join("a/root")).unwrap();
        for closed in ["e/f/g", "e/f", "e"] {
            fs::set_permissions(path.join(closed), fs::Permissions::from_mode(0o0)).unwrap();
        }
        remove_tree(CWD, &path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_removed_in_time_is_left() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("full");
        fs::create_dir_all(path.join("a/b")).unwrap();
        let over = Instant::now();
        assert_eq!(remove_tree_until(CWD, &path, over), Err(Errno::TIME));
        assert!(path.join("a/b").exists());
        remove_tree(CWD, &path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_directory_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let (file, link) = (base.path().join("file"), base.path().join("link"));
        fs::write(&file, "x").unwrap();
        symlink(base.path(), &link).unwrap();
        for path in [&file, &link] {
            assert!(remove_tree(CWD, path).is_err());
            assert!(path.exists());
        }
    }
}
