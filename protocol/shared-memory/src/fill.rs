//! Writing a content into a file of shared memory.
#![expect(unsafe_code, reason = "memory is written to where a file is mapped")]

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::fs::SealFlags;
use rustix::thread::ClockId;

use crate::HUGE_BYTES;
use crate::map::Map;
use crate::patience::{self, Attempt};

/// Bytes that are mapped and asked for at a time. One request has a price of its
/// own, as every processor hands in what it has put aside; and what it cost is
/// known before the next.
const WINDOW_BYTES: u64 = 8 * HUGE_BYTES;

/// `MADV_COLLAPSE`, which rustix does not know.
const COLLAPSE: libc::c_int = 25;

/// Whether the kernel has huge pages of the length that we assume. Where they
/// are longer, asking for some within a shorter range succeeds and does nothing.
static HAS_HUGE_PAGES: LazyLock<bool> = LazyLock::new(|| {
    let length = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
    length.is_ok_and(|length| length.trim().parse() == Ok(HUGE_BYTES))
});

/// Bytes and where in the file they go.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// First byte in the file.
    pub offset: u64,
    /// The bytes.
    pub content: &'a [u8],
}

/// Writes what the pieces have within a range of the file, which begins at a
/// multiple of [`HUGE_BYTES`] and is nobody else's meanwhile.
///
/// Pages become huge where the file is new memory, as long as the range, and
/// sealed against shrinking; any other file is written all the same.
///
/// # Errors
/// When the file cannot be written, or there is no memory.
pub fn fill(file: BorrowedFd<'_>, pieces: &[Piece<'_>], range: Range<u64>) -> io::Result<()> {
    let long = range.end.saturating_sub(range.start) >= HUGE_BYTES;
    let steady = if long && *HAS_HUGE_PAGES { steady_bytes(file) } else { 0 };
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + WINDOW_BYTES);
        let most = (end - at) / HUGE_BYTES * HUGE_BYTES;
        if most > 0 && at + most <= steady {
            let huge = at..at + patience::tries(most);
            if huge.end > at
                && let Some(map) = huge_pages(file, &huge)
            {
                copy(pieces, &huge, &map);
                at = huge.end;
                continue;
            }
        }
        write(file, pieces, &(at..end))?;
        at = end;
    }
    Ok(())
}

/// Bytes of the file that stay there whatever others do: memory that is mapped
/// beyond its file's end is a fatal signal at the first touch.
fn steady_bytes(file: BorrowedFd<'_>) -> u64 {
    match rustix::fs::fcntl_get_seals(file) {
        Ok(seals) if seals.contains(SealFlags::SHRINK) => rustix::fs::fstat(file)
            .ok()
            .and_then(|status| u64::try_from(status.st_size).ok())
            .unwrap_or(0),
        // Files on a disk have no seals.
        Ok(_) | Err(_) => 0,
    }
}

/// A map of the range, all in huge pages; `None` when the kernel has none.
fn huge_pages(file: BorrowedFd<'_>, range: &Range<u64>) -> Option<Map> {
    let map = Map::shared(file, range.start, range.end - range.start).ok()?;
    // A huge page is made of those that are there, so one has to be.
    let mut first = range.start;
    while first < range.end {
        rustix::io::pwrite(file, &[0], first).ok().filter(|written| *written == 1)?;
        first += HUGE_BYTES;
    }
    let (begun, worked) = (Instant::now(), thread_time());
    // SAFETY: our own map; its content stays.
    let succeeded = unsafe { libc::madvise(map.as_ptr().cast(), map.len(), COLLAPSE) } == 0;
    patience::learn(Attempt {
        bytes: range.end - range.start,
        passed: begun.elapsed(),
        worked: thread_time().saturating_sub(worked),
        succeeded,
    });
    succeeded.then_some(map)
}

/// How long this thread has worked.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The pieces' parts within a range.
fn within<'a>(pieces: &'a [Piece<'a>], range: &Range<u64>) -> impl Iterator<Item = Piece<'a>> {
    let range = range.clone();
    pieces.iter().filter_map(move |piece| {
        let begin = piece.offset.max(range.start);
        let end = range.end.min(piece.offset.saturating_add(piece.content.len() as u64));
        // Never more than the content's length.
        let part = |at: u64| usize::try_from(at.checked_sub(piece.offset)?).ok();
        let content = piece.content.get(part(begin)?..part(end)?)?;
        (!content.is_empty()).then_some(Piece { offset: begin, content })
    })
}

fn copy(pieces: &[Piece<'_>], range: &Range<u64>, map: &Map) {
    for Piece { offset, content } in within(pieces, range) {
        let place = usize::try_from(offset - range.start).unwrap_or(usize::MAX);
        if place.saturating_add(content.len()) > map.len() {
            continue; // cannot be: `within` cut it
        }
        // SAFETY: the map has the range's length, which the part is within, and
        // nobody else has this map.
        unsafe {
            let target = map.as_ptr().add(place);
            target.copy_from_nonoverlapping(content.as_ptr(), content.len());
        }
    }
}

fn write(file: BorrowedFd<'_>, pieces: &[Piece<'_>], range: &Range<u64>) -> io::Result<()> {
    for Piece { mut offset, mut content } in within(pieces, range) {
        while !content.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, content, offset))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            content = &content[written..];
            offset += written as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "fill_tests.rs"]
mod tests;
