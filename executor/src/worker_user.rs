//! The user that zygotes and workers run as, when that is not the agent's own.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whoever cannot be told apart from another service's user has at least no
/// rights of root's.
const NOBODY: &str = "nobody";

/// Room for the words of an entry of the user database.
const MAX_ENTRY: usize = 64 << 10;

/// Most groups of one user that we ask for; the kernel allows 65536.
const MAX_GROUPS: usize = 1024;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerUser {
    /// The name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the main group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// The home directory, whether it is there or not.
    pub home: String,
}

/// Why workers cannot run as a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Nobody has that name.
    #[error("there is no such user on this machine")]
    Unknown,
    /// The agent may not become another user.
    #[error("only an agent that root runs can run its workers as another user")]
    NotRoot,
    /// Some file that an interpreter needs is closed to the user.
    #[error(
        "user `{user}` cannot read `{}`, which `{}` needs; install that where every user can read \
         it, or name another user with `worker-user`", obstacle.display(), needed_by.display()
    )]
    Closed {
        /// The user.
        user: String,
        /// The file or directory that is closed.
        obstacle: PathBuf,
        /// What was to be read.
        needed_by: PathBuf,
    },
}

impl WorkerUser {
    /// The user that workers are to run as; `None`: the agent's own.
    ///
    /// # Errors
    /// [`UserError`] when there is no such user, or the agent is not root's.
    pub fn choose(name: Option<&str>, on_network: bool) -> Result<Option<Self>, UserError> {
        let own = rustix::process::geteuid();
        let name = match name {
            Some(name) => name,
            // Whoever may connect to root's own socket is root.
            None if own.is_root() && on_network => NOBODY,
            None => return Ok(None),
        };
        let user = Self::named(name).ok_or(UserError::Unknown)?;
        if user.uid == own.as_raw() {
            return Ok(None);
        }
        if own.is_root() { Ok(Some(user)) } else { Err(UserError::NotRoot) }
    }

    #[expect(unsafe_code, reason = "the user database of the C library")]
    fn named(name: &str) -> Option<Self> {
        let c_name = CString::new(name).ok()?;
        let mut words = vec![0; MAX_ENTRY];
        // SAFETY: plain numbers and pointers, for which zeros are valid.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: each pointer is to memory of ours, as large as it is told; the
        // entry's words are in `words`, which is still there when they are read.
        let (uid, gid, home) = unsafe {
            let (words, room) = (words.as_mut_ptr(), words.len());
            libc::getpwnam_r(c_name.as_ptr(), &raw mut entry, words, room, &raw mut found);
            let entry = found.as_ref()?;
            let home = CStr::from_ptr(entry.pw_dir).to_string_lossy().into_owned();
            (entry.pw_uid, entry.pw_gid, home)
        };
        let mut groups = vec![0; MAX_GROUPS];
        let mut count = libc::c_int::try_from(groups.len()).ok()?;
        // SAFETY: there is room for as many as it is told.
        let found = unsafe {
            libc::getgrouplist(c_name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count)
        };
        let groups = match usize::try_from(count) {
            Ok(count) if found >= 0 => groups.into_iter().take(count).collect(),
            Ok(_) | Err(_) => vec![gid],
        };
        Some(Self { name: name.to_owned(), uid, gid, groups, home })
    }

    /// Environment variables that say who one is.
    pub(crate) fn variables(&self) -> [(&'static str, &str); 3] {
        [("HOME", &self.home), ("USER", &self.name), ("LOGNAME", &self.name)]
    }

    /// Looks whether the user may read a file, and whatever leads there.
    ///
    /// # Errors
    /// [`UserError::Closed`] with what is in the way.
    pub(crate) fn may_read(&self, file: &Path) -> Result<(), UserError> {
        let closed = |obstacle: &Path| UserError::Closed {
            user: self.name.clone(),
            obstacle: obstacle.to_owned(),
            needed_by: file.to_owned(),
        };
        // The way as it is written, and as it is: links lead through both.
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        for path in BTreeSet::from([file, &real]) {
            for folder in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                if !self.is_granted(folder, 0o1) {
                    return Err(closed(folder));
                }
            }
        }
        if self.is_granted(&real, 0o4) { Ok(()) } else { Err(closed(&real)) }
    }

    /// Whether permissions grant a right (4: read, 1: enter). Lists of other
    /// rights are not looked at.
    fn is_granted(&self, path: &Path, right: u32) -> bool {
        // What is not there is somebody else's to complain about.
        std::fs::metadata(path).map_or(true, |metadata| self.grants(&metadata, right))
    }

    fn grants(&self, metadata: &Metadata, right: u32) -> bool {
        let shift = if metadata.uid() == self.uid {
            6
        } else if self.groups.contains(&metadata.gid()) {
            3
        } else {
            0
        };
        metadata.mode() >> shift & right == right
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn stranger() -> WorkerUser {
        WorkerUser {
            name: "stranger".to_owned(),
            uid: 4_000_000_000,
            gid: 4_000_000_000,
            groups: vec![4_000_000_000],
            home: "/".to_owned(),
        }
    }

    #[test]
    fn what_is_closed_on_the_way_is_named() {
        let base = tempfile::tempdir().unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(base.path(), open.clone()).unwrap();
        let (closed, link) = (base.path().join("closed"), base.path().join("link"));
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("python"), "").unwrap();
        symlink(closed.join("python"), &link).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let error = stranger().may_read(&link).unwrap_err();
        let real = closed.canonicalize().unwrap();
        assert!(matches!(&error, UserError::Closed { obstacle, .. } if *obstacle == real));
        for named in ["`stranger`", real.to_str().unwrap(), link.to_str().unwrap()] {
            assert!(error.to_string().contains(named), "{error}");
        }
        fs::set_permissions(&closed, open).unwrap();
        assert_eq!(stranger().may_read(&link), Ok(()));
        let file = real.join("python");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = stranger().may_read(&link).unwrap_err();
        assert!(matches!(error, UserError::Closed { obstacle, .. } if obstacle == file));
    }

    #[test]
    fn a_user_who_is_not_there_is_refused_and_one_is_known_with_the_groups() {
        assert_eq!(WorkerUser::choose(Some("no-such-user"), true), Err(UserError::Unknown));
        let root = WorkerUser::named("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(WorkerUser::choose(None, false), Ok(None));
        let own = rustix::process::geteuid();
        let on_network = WorkerUser::choose(None, true).unwrap().map(|user| user.name);
        assert_eq!(on_network.as_deref(), own.is_root().then_some("nobody"));
        if own.is_root() {
            assert_eq!(WorkerUser::choose(Some("root"), true), Ok(None), "as the operator wants");
        } else {
            assert_eq!(WorkerUser::choose(Some("root"), true), Err(UserError::NotRoot));
        }
    }
}
