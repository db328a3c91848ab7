use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::*;

const LENGTH: u64 = 2 * WINDOW_BYTES + HUGE_BYTES + 12_345;

fn memory(length: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("test", flags).unwrap();
    rustix::fs::ftruncate(&file, length).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

/// Bytes of which no two parts are alike.
fn content(length: u64) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16) ^ (at >> 24)).to_le_bytes()[0]).collect()
}

fn read(file: &OwnedFd, length: u64) -> Vec<u8> {
    let mut found = vec![0; usize::try_from(length).unwrap()];
    let mut at = 0;
    while at < found.len() {
        let got = rustix::io::pread(file, &mut found[at..], at as u64).unwrap();
        assert!(got > 0, "the file ends at {at}");
        at += got;
    }
    found
}

#[test]
fn what_is_written_is_what_is_read_and_can_be_sealed() {
    let content = content(LENGTH);
    for seals in [SealFlags::SHRINK | SealFlags::GROW, SealFlags::empty()] {
        let file = memory(LENGTH, seals);
        let piece = Piece { offset: 0, content: &content };
        fill(file.as_fd(), &[piece], 0..LENGTH).unwrap();
        // No map for writing is left.
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
        assert!(read(&file, LENGTH) == content);
    }
}

#[test]
fn two_threads_write_the_halves_of_a_file() {
    let content = content(LENGTH);
    let file = memory(LENGTH, SealFlags::SHRINK);
    let piece = Piece { offset: 0, content: &content };
    let middle = WINDOW_BYTES;
    std::thread::scope(|scope| {
        let half = scope.spawn(|| fill(file.as_fd(), &[piece], middle..LENGTH));
        fill(file.as_fd(), &[piece], 0..middle).unwrap();
        half.join().unwrap().unwrap();
    });
    assert!(read(&file, LENGTH) == content);
}

#[test]
fn pieces_go_where_they_belong_and_gaps_are_zero() {
    let content = content(LENGTH);
    // Across the borders of pages and of windows, with gaps between them.
    let borders = [64, 4096, HUGE_BYTES - 64, HUGE_BYTES + 640, WINDOW_BYTES - 1, LENGTH];
    let mut expected = vec![0; content.len()];
    let mut pieces = Vec::new();
    for (begin, end) in borders.iter().zip(&borders[1..]) {
        let (begin, end) = (*begin, *end - 32);
        let place = usize::try_from(begin).unwrap()..usize::try_from(end).unwrap();
        expected[place.clone()].copy_from_slice(&content[place.clone()]);
        pieces.push(Piece { offset: begin, content: &content[place] });
    }
    let file = memory(LENGTH, SealFlags::SHRINK);
    fill(file.as_fd(), &pieces, 0..LENGTH).unwrap();
    assert!(read(&file, LENGTH) == expected);
}

#[test]
fn a_file_that_is_too_short_is_an_error_or_grows_and_never_a_signal() {
    let content = content(2 * HUGE_BYTES);
    let piece = Piece { offset: 0, content: &content };
    let sealed = memory(HUGE_BYTES, SealFlags::SHRINK | SealFlags::GROW);
    assert!(fill(sealed.as_fd(), &[piece], 0..2 * HUGE_BYTES).is_err());
    let open = memory(HUGE_BYTES, SealFlags::SHRINK);
    fill(open.as_fd(), &[piece], 0..2 * HUGE_BYTES).unwrap();
    assert!(read(&open, 2 * HUGE_BYTES) == content);
}
