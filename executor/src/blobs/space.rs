//! Files without names: memfds, and unlinked files on disk.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use super::ledger::Place;
use crate::failure::{Failure, Kind};
use crate::random_name::random_name;

/// How often sealing is tried while somebody holds on to a page, and how long
/// nothing is done in between.
const SEAL_TRIES: u32 = 5;
const SEAL_PAUSE: Duration = Duration::from_millis(20);

/// Only for its owner, who cannot open it again for writing.
const READ_ONLY: Mode = Mode::RUSR;

/// Room for so many bytes. Pages of shared memory come when they are written,
/// with `pwrite`: one that cannot be had is an error of the write then.
/// Blocks on the disk.
///
/// # Errors
/// [`Kind::QuotaExceeded`] when there is no room on the disk, and
/// [`Kind::Internal`] when the operating system refuses something else.
pub(super) fn create(place: Place, bytes: u64, directory: &Path) -> Result<OwnedFd, Failure> {
    match place {
        Place::Memory => in_memory(bytes).map_err(|error| {
            Failure::new(
                Kind::Internal,
                format!("no shared memory of {bytes} bytes to be had: {error}"),
            )
        }),
        Place::Disk => on_disk(bytes, directory).map_err(|error| {
            let directory = directory.display();
            let message = format!(
                "no file of {bytes} bytes to be had in `spill-directory` `{directory}`: {error}"
            );
            Failure::new(kind_of(&error), message)
        }),
    }
}

/// What it means that the operating system gives no room.
pub(super) fn kind_of(error: &io::Error) -> Kind {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory
    );
    if full { Kind::QuotaExceeded } else { Kind::Internal }
}

fn in_memory(bytes: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("clutch-blob", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    // Whoever fills it may do so through a map, which only a shorter file breaks.
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

fn on_disk(bytes: u64, directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::open(directory, flags | OFlags::TMPFILE, READ_ONLY) {
        Ok(file) => file,
        // Not every file system knows files without names.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = directory.join(format!("clutch-{}", random_name()?));
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            let file = rustix::fs::open(&path, flags, READ_ONLY)?;
            rustix::fs::unlink(&path)?;
            file
        }
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can promise room.
        Err(rustix::io::Errno::OPNOTSUPP) => rustix::fs::ftruncate(&file, bytes)?,
        other => other?,
    }
    Ok(file)
}

/// Makes the content final; what is `writable` keeps its length only. Gives
/// the descriptor to hand on.
///
/// Blocks for some milliseconds when the kernel itself holds on to a page, for
/// example while it moves it.
///
/// # Errors
/// When somebody has it mapped for writing.
pub(super) fn seal(file: Arc<OwnedFd>, place: Place, writable: bool) -> io::Result<Arc<OwnedFd>> {
    match place {
        Place::Memory => {
            let mut seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            seals.set(SealFlags::WRITE, !writable);
            let mut tries = 1..SEAL_TRIES;
            while let Err(error) = rustix::fs::fcntl_add_seals(&file, seals) {
                if error != Errno::BUSY || tries.next().is_none() {
                    return Err(error.into());
                }
                std::thread::sleep(SEAL_PAUSE);
            }
            Ok(file)
        }
        Place::Disk if writable => Ok(file),
        // Files on disk have no seals; one that is open for reading only is
        // the nearest to it.
        Place::Disk => {
            let path = DescriptorPath(file.as_fd());
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            Ok(Arc::new(rustix::fs::open(path.to_string(), flags, Mode::empty())?))
        }
    }
}

/// Where the kernel shows a descriptor of this process.
struct DescriptorPath<'a>(BorrowedFd<'a>);

impl fmt::Display for DescriptorPath<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::fd::AsRawFd;
        write!(out, "/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// Writes all of it at that place of the file; blocks.
///
/// # Errors
/// When there is no room, or the disk fails.
pub(super) fn write_at(file: &OwnedFd, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, data, offset))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data = &data[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Reads as much as there is room for; blocks.
///
/// # Errors
/// When the file ends before, or the disk fails.
pub(super) fn read_at(file: &OwnedFd, mut room: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !room.is_empty() {
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *room, offset))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        room = &mut room[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Reads so many bytes; blocks.
///
/// # Errors
/// As [`read_at`].
pub(super) fn read(file: &OwnedFd, length: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(length);
    while read.len() < length {
        let at = offset + read.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut read), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // There may have been room for more.
    read.truncate(length);
    Ok(read)
}
