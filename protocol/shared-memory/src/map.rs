//! Maps of files that begin where huge pages can.
#![expect(unsafe_code, reason = "maps of files")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags};

/// [`HUGE_BYTES`](crate::HUGE_BYTES), as addresses count.
const HUGE: usize = 2 << 20;

/// A map of a file, unmapped when it goes.
#[derive(Debug)]
pub struct Map {
    begin: *mut u8,
    length: usize,
}

// SAFETY: it is an address and a length; who uses the memory is up to them.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first bytes of a file so that nobody else sees what is written
    /// to them. Pages come when they are touched: asking for all at once would
    /// copy them, since they could be written to.
    ///
    /// The file must not shrink, or touching what is gone is a fatal signal.
    ///
    /// # Errors
    /// When the length is 0 or no memory, or the file cannot be mapped.
    pub fn private(file: BorrowedFd<'_>, length: u64) -> io::Result<Self> {
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        Self::new(file, 0, length, writable, MapFlags::PRIVATE)
    }

    /// Maps the first bytes of a file to be read.
    ///
    /// The file must not shrink, or touching what is gone is a fatal signal.
    ///
    /// # Errors
    /// When the length is 0 or no memory, or the file cannot be mapped.
    pub fn read_only(file: BorrowedFd<'_>, length: u64) -> io::Result<Self> {
        // Older kernels map what is sealed against writing only privately.
        Self::new(file, 0, length, ProtFlags::READ, MapFlags::PRIVATE)
    }

    /// Maps a part of a file to be written to for others to see; the offset is a
    /// multiple of [`HUGE_BYTES`](crate::HUGE_BYTES).
    pub(crate) fn shared(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<Self> {
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        Self::new(file, offset, length, writable, MapFlags::SHARED)
    }

    fn new(
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
        access: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if length < HUGE {
            // SAFETY: the kernel chooses the place.
            let begin =
                unsafe { rustix::mm::mmap(ptr::null_mut(), length, access, flags, file, offset) }?;
            return Ok(Self { begin: begin.cast(), length });
        }
        // By itself the kernel takes any place, and there it could not map a huge
        // page as one. So we reserve more than enough, and keep what fits.
        let reserved = Self::reserve(length.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?)?;
        let before = reserved.begin.align_offset(HUGE);
        let flags = flags | MapFlags::FIXED;
        let place = reserved.begin.wrapping_add(before);
        // SAFETY: the place is reserved by us, and nobody knows it yet.
        let begin = unsafe { rustix::mm::mmap(place.cast(), length, access, flags, file, offset) }?;
        let map = Self { begin: begin.cast(), length };
        reserved.keep(before, length);
        Ok(map)
    }

    /// Addresses without memory.
    fn reserve(length: usize) -> io::Result<Self> {
        let (access, flags) = (ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: the kernel chooses the place.
        let begin = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, access, flags) }?;
        Ok(Self { begin: begin.cast(), length })
    }

    /// Gives up what is before and behind a part of it, which is another's now.
    fn keep(self, before: usize, length: usize) {
        let this = ManuallyDrop::new(self);
        // Whole pages: the kernel maps no less.
        let end = (before + length).next_multiple_of(rustix::param::page_size());
        unmap(this.begin, before);
        unmap(this.begin.wrapping_add(end), this.length - end);
    }

    /// Where it begins.
    pub fn as_ptr(&self) -> *mut u8 {
        self.begin
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: nothing of no length is mapped.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        unmap(self.begin, self.length);
    }
}

fn unmap(begin: *mut u8, length: usize) {
    if length == 0 {
        return;
    }
    // SAFETY: mapped by this file, and whoever used it is gone.
    let unmapped = unsafe { rustix::mm::munmap(begin.cast(), length) };
    debug_assert!(unmapped.is_ok(), "unmapping {length} bytes: {unmapped:?}");
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::MemfdFlags;

    use super::*;

    #[test]
    fn a_map_of_many_bytes_begins_at_a_huge_page_and_leaves_the_file_alone() {
        let file = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        for length in [1, HUGE - 1, HUGE, 3 * HUGE + 5] {
            rustix::fs::ftruncate(&file, length as u64).unwrap();
            rustix::io::pwrite(&file, b"a", length as u64 - 1).unwrap();
            let map = Map::private(file.as_fd(), length as u64).unwrap();
            assert_eq!(map.len(), length);
            assert!(length < HUGE || map.as_ptr().align_offset(HUGE) == 0, "{length}");
            let last = map.as_ptr().wrapping_add(length - 1);
            // SAFETY: the last byte of the map.
            unsafe {
                assert_eq!(*last, b'a');
                *last = b'b';
            }
            let mut found = [0];
            rustix::io::pread(&file, &mut found, length as u64 - 1).unwrap();
            assert_eq!(&found, b"a");
        }
        assert!(Map::private(file.as_fd(), 0).is_err());
    }
}
