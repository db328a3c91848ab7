//! Removes a directory that somebody else filled.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

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

/// Removes a directory and all that is in it. Follows no link, enters no other
/// file system, and needs two descriptors and no stack however deep the
/// directories are: what is too deep is moved up first.
///
/// # Errors
/// The first thing that cannot be removed, once nothing else can be.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<()> {
    let top = open_directory(parent, name)?;
    let mut tree = Removal { top, moved: 0, changes: 0, obstacle: None };
    loop {
        let before = tree.changes;
        tree.pass()?;
        match tree.obstacle.take() {
            None => break,
            Some(obstacle) if tree.changes == before => return Err(obstacle),
            Some(_) => {}
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

struct Removal {
    top: OwnedFd,
    /// Directories that were moved up, for their names.
    moved: u64,
    /// What was removed or moved.
    changes: u64,
    /// Why another pass is needed.
    obstacle: Option<Errno>,
}

impl Removal {
    /// Removes files, and directories without directories in them.
    fn pass(&mut self) -> rustix::io::Result<()> {
        for name in names(self.top.as_fd())? {
            if self.unlinked(None, &name) {
                continue;
            }
            let emptied = self.enter(&name).and_then(|inner| {
                self.empty(&inner, &name)?;
                unlinkat(&self.top, name.as_c_str(), AtFlags::REMOVEDIR)
            });
            self.note(emptied);
        }
        Ok(())
    }

    /// Removes files from a directory below the top, and moves directories up.
    fn empty(&mut self, inner: &OwnedFd, own: &CStr) -> rustix::io::Result<()> {
        for name in names(inner.as_fd())? {
            if !self.unlinked(Some(inner), &name) {
                // To be moved it must be writable.
                chmodat(inner, name.as_c_str(), Mode::RWXU, AtFlags::empty()).ok();
                let moved = self.move_up(inner, &name, own);
                self.note(moved);
            }
        }
        Ok(())
    }

    fn move_up(&mut self, inner: &OwnedFd, name: &CStr, own: &CStr) -> rustix::io::Result<()> {
        loop {
            self.moved += 1;
            let to = CString::new(format!("clutch-{}", self.moved)).unwrap_or_default();
            if to.as_c_str() == own {
                continue;
            }
            match renameat(inner, name, &self.top, to.as_c_str()) {
                // Somebody used that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                moved => return moved.inspect(|()| self.obstacle = Some(Errno::AGAIN)),
            }
        }
    }

    /// Removes what is no directory; `false`: it is one.
    fn unlinked(&mut self, inner: Option<&OwnedFd>, name: &CStr) -> bool {
        let parent = inner.unwrap_or(&self.top);
        match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => return false,
            done => self.note(done),
        }
        true
    }

    fn enter(&self, name: &CStr) -> rustix::io::Result<OwnedFd> {
        let alone = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let open = || match openat2(&self.top, name, FLAGS, Mode::empty(), alone) {
            // Sandboxes do not know this call; few of them can mount.
            Err(Errno::NOSYS) => openat(&self.top, name, FLAGS, Mode::empty()),
            opened => opened,
        };
        let inner = open().or_else(|_| {
            chmodat(&self.top, name, Mode::RWXU, AtFlags::empty())?;
            open()
        })?;
        fchmod(&inner, Mode::RWXU)?;
        Ok(inner)
    }

    fn note(&mut self, done: rustix::io::Result<()>) {
        match done {
            Ok(()) => self.changes += 1,
            Err(Errno::NOENT) => {}
            Err(error) => self.obstacle = Some(error),
        }
    }
}

fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
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
        for _ in 0..3000 {
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
            fs::set_permissions(path.join(closed), fs::Permissions::from_mode(0)).unwrap();
        }
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
