//! An access file on disk: private, and never half written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::{AccessError, AccessFile};

/// More is no access file.
const MAX_BYTES: u64 = 1 << 20;

/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;

/// An access file by its path.
#[derive(Debug, Clone)]
pub struct StoredFile {
    path: PathBuf,
}

impl StoredFile {
    /// Names it; looks at nothing.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not there, others may read it, or it makes no sense.
    pub fn read(&self) -> Result<AccessFile, AccessError> {
        let file = File::open(&self.path).map_err(AccessError::file("read", &self.path))?;
        self.contents(file)
    }

    /// Reads it, or makes it when it is not there. Of several that do so at once,
    /// one makes it and all get the same. Tells whether it was this one.
    ///
    /// # Errors
    /// As [`Self::read`], and when it cannot be made.
    pub fn read_or_generate(&self) -> Result<(AccessFile, bool), AccessError> {
        match File::open(&self.path) {
            Ok(file) => return Ok((self.contents(file)?, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(AccessError::file("read", &self.path)(error)),
        }
        let made = AccessFile::generate()?;
        let file = self.draft(&made).map_err(AccessError::file("write", &self.path))?;
        match file.persist_noclobber(&self.path) {
            Ok(_) => Ok((made, true)),
            Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {
                Ok((self.read()?, false))
            }
            Err(lost) => Err(AccessError::file("write", &self.path)(lost.error)),
        }
    }

    /// Changes it, while nobody else does.
    ///
    /// # Errors
    /// As [`Self::read`], and when it cannot be written.
    pub fn update(&self, change: impl FnOnce(&mut AccessFile)) -> Result<(), AccessError> {
        let failed = |error| AccessError::file("write", &self.path)(error);
        let locked = self.locked().map_err(failed)?;
        let mut contents = self.contents(locked.try_clone().map_err(failed)?)?;
        change(&mut contents);
        let file = self.draft(&contents).map_err(failed)?;
        file.persist(&self.path).map_err(|lost| failed(lost.error))?;
        drop(locked);
        Ok(())
    }

    /// Writes a new one.
    ///
    /// # Errors
    /// When there is one, or it cannot be written.
    pub fn create(&self, contents: &AccessFile) -> Result<(), AccessError> {
        let failed = |error| AccessError::file("write", &self.path)(error);
        let file = self.draft(contents).map_err(failed)?;
        file.persist_noclobber(&self.path).map_err(|lost| failed(lost.error))?;
        Ok(())
    }

    /// The file, and nobody else has it until it is closed. A writer puts another
    /// file in its place, so whoever waited looks again.
    fn locked(&self) -> io::Result<File> {
        loop {
            let file = File::open(&self.path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            let (held, found) = (file.metadata()?, std::fs::metadata(&self.path)?);
            if (held.dev(), held.ino()) == (found.dev(), found.ino()) {
                return Ok(file);
            }
        }
    }

    fn contents(&self, file: File) -> Result<AccessFile, AccessError> {
        let failed = |error| AccessError::file("read", &self.path)(error);
        let found = file.metadata().map_err(failed)?;
        let refused = |why: String| AccessError::NotOne { path: self.path.clone(), why };
        if !found.is_file() {
            return Err(refused("it is no regular file".to_owned()));
        }
        if found.mode() & OTHERS != 0 {
            let mode = found.mode() & 0o7777;
            return Err(AccessError::OpenToOthers { path: self.path.clone(), mode });
        }
        // Sized at once: growing would leave copies behind.
        let size = usize::try_from(found.len().min(MAX_BYTES)).unwrap_or(0);
        let mut text = Zeroizing::new(String::with_capacity(size + 1));
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
        AccessFile::parse(&text).map_err(refused)
    }

    /// A file beside it, with mode 0600 from its first moment.
    fn draft(&self, contents: &AccessFile) -> io::Result<NamedTempFile> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut file = tempfile::Builder::new().prefix(".clutch-access-").tempfile_in(folder)?;
        file.write_all(contents.text().as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn of_many_that_make_it_at_once_all_get_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let stored = StoredFile::at(&folder.path().join("cluster.json"));
        let together = Barrier::new(4);
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        stored.read_or_generate().unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|(file, _)| file.token.is(&made[0].0.token)));
        assert_eq!(made.iter().filter(|(_, own)| *own).count(), 1);
        let mode = std::fs::metadata(&stored.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let stored = StoredFile::at(&folder.path().join("cluster.json"));
        stored.read_or_generate().unwrap();
        std::thread::scope(|scope| {
            for port in 0..8 {
                let stored = &stored;
                scope.spawn(move || {
                    stored.update(|file| file.agents.push(format!("host:{port}"))).unwrap();
                });
            }
        });
        assert_eq!(stored.read().unwrap().agents.len(), 8);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.json");
        let stored = StoredFile::at(&path);
        stored.read_or_generate().unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        for error in [stored.read().unwrap_err(), stored.update(|_| ()).unwrap_err()] {
            let told = error.to_string();
            assert!(told.contains("0640") && told.contains("chmod 600"), "{told}");
        }
    }
}
