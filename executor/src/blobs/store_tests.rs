use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags};

use super::*;
use crate::blobs::{AdoptError, FillError};

const PAGE: u64 = 4096;

fn store(memory: u64, spill: u64) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let options = BlobOptions {
        memory_bytes: memory * PAGE,
        spill_directory: folder.path().to_owned(),
        spill_bytes: spill * PAGE,
    };
    (folder, Store::new(options))
}

fn usage(store: &Store) -> Usage {
    store.usage().0
}

fn text(blob: &Blob) -> Vec<u8> {
    let mut room = vec![0; usize::try_from(blob.bytes()).unwrap()];
    blob.read_at(&mut room, 0).unwrap();
    room
}

/// Writes to a descriptor as a driver does.
fn fill(filling: &Filling, content: &[u8]) {
    let mut file = File::from(filling.descriptor().try_clone_to_owned().unwrap());
    file.write_all(content).unwrap();
}

fn memfd(content: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
    file.write_all(content).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

#[tokio::test]
async fn a_driver_fills_a_blob_and_cannot_change_it_afterwards() {
    for (place, memory) in [("memory", 1), ("disk", 0)] {
        let (folder, store) = store(memory, 1);
        let filling = store.allocate(3, false).await.unwrap();
        fill(&filling, b"abc");
        let blob = filling.commit(None).unwrap();
        assert_eq!(text(&blob), b"abc", "{place}");
        let handed_on = File::from(blob.descriptor().try_clone_to_owned().unwrap());
        assert!((&handed_on).write(b"x").is_err(), "{place}");
        assert!(handed_on.set_len(0).is_err(), "{place}");
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 0, "no file has a name");
        drop(blob);
        assert_eq!(usage(&store), Usage::default());
    }
}

#[tokio::test]
async fn a_writable_blob_keeps_its_length_only() {
    let (_folder, store) = store(1, 0);
    let blob = store.allocate(3, true).await.unwrap().commit(None).unwrap();
    let mut file = File::from(blob.descriptor().try_clone_to_owned().unwrap());
    file.write_all(b"abc").unwrap();
    assert_eq!(text(&blob), b"abc");
    assert!(file.set_len(0).is_err());
    assert!(blob.is_writable());
}

#[tokio::test]
async fn the_length_of_memory_cannot_change_while_it_is_filled() {
    let (_folder, store) = store(1, 0);
    let filling = store.allocate(3, false).await.unwrap();
    let file = File::from(filling.descriptor().try_clone_to_owned().unwrap());
    assert!(file.set_len(7).is_err());
    assert!(file.set_len(1).is_err());
}

#[tokio::test]
async fn a_file_whose_length_was_changed_is_refused() {
    let (_folder, store) = store(0, 1);
    let filling = store.allocate(3, false).await.unwrap();
    File::from(filling.descriptor().try_clone_to_owned().unwrap()).set_len(7).unwrap();
    let failure = filling.commit(None).unwrap_err();
    assert_eq!(failure.message, "a blob has 7 bytes and 3 were announced");
    assert_eq!(usage(&store), Usage::default());
}

#[tokio::test]
async fn content_is_found_by_its_digest_also_when_nobody_uses_it() {
    let (_folder, store) = store(2, 0);
    let digest = *blake3::hash(b"abcdef").as_bytes();
    assert!(store.lookup(&digest).is_none());
    let filling = store.allocate(6, false).await.unwrap();
    let filling = filling.write(Bytes::from_static(b"abc")).await.unwrap();
    assert!(!filling.is_full());
    let filling = filling.write(Bytes::from_static(b"def")).await.unwrap();
    assert!(filling.is_full());
    drop(filling.commit(Some(digest)).unwrap());
    assert_eq!(usage(&store).cached, 1);
    let found = store.lookup(&digest).unwrap();
    assert_eq!(text(&found), b"abcdef");
    assert_eq!(usage(&store).cached, 0);
    drop(found);
    let other = store.allocate(2 * PAGE, false).await.unwrap();
    assert!(store.lookup(&digest).is_none(), "it made way");
    drop(other);
}

#[tokio::test]
async fn an_upload_that_is_not_what_was_announced_is_refused() {
    let (_folder, store) = store(2, 0);
    let filling = store.allocate(3, false).await.unwrap();
    let filling = filling.write(Bytes::from_static(b"abc")).await.unwrap();
    let failure = filling.commit(Some([7; 32])).unwrap_err();
    let computed = blake3::hash(b"abc").to_hex();
    assert!(failure.message.contains(computed.as_str()), "{}", failure.message);
    let filling = store.allocate(3, false).await.unwrap();
    let error = filling.write(Bytes::from_static(b"abcd")).await.unwrap_err();
    assert!(matches!(error, FillError::Length));
    assert_eq!(usage(&store), Usage::default());
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_named() {
    let options =
        BlobOptions { memory_bytes: 0, spill_directory: "/proc".into(), spill_bytes: PAGE };
    let failure = Store::new(options).allocate(1, false).await.unwrap_err();
    for named in ["`spill-directory` `/proc`", "1 bytes"] {
        assert!(failure.message.contains(named), "{}", failure.message);
    }
}

#[test]
fn a_workers_file_is_taken_when_nobody_can_shrink_it() {
    let (_folder, store) = store(1, 1);
    let blob = store.adopt(memfd(b"abc", SealFlags::SHRINK), 3, false).unwrap();
    assert_eq!(text(&blob), b"abc");
    assert_eq!(usage(&store).memory_bytes, PAGE);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"defg").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let blob = store.adopt(file.into(), 3, true).unwrap();
    assert_eq!(text(&blob), b"defg");
    assert_eq!(usage(&store).spilled_bytes, PAGE);
}

#[test]
fn whatever_else_a_worker_sends_is_nonsense() {
    let (_folder, store) = store(1, 1);
    let whole = SealFlags::SHRINK;
    let folder = tempfile::tempdir().unwrap();
    let written_only = File::create(folder.path().join("f")).unwrap();
    written_only.set_len(3).unwrap();
    let cases: [(OwnedFd, &str); 5] = [
        (memfd(b"abc", SealFlags::GROW), "can still shrink"),
        (memfd(b"ab", whole), "a file of 2 bytes, and 3 were announced"),
        (memfd(&vec![0; 3 << 20], whole), "a file of 3145728 bytes"),
        (std::io::pipe().unwrap().0.into(), "no regular file"),
        (written_only.into(), "cannot be read"),
    ];
    for (file, expected) in cases {
        let error = store.adopt(file, 3, false).unwrap_err();
        assert!(matches!(error, AdoptError::Nonsense(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(usage(&store), Usage::default());
}

#[test]
fn a_worker_that_was_told_to_go_to_disk_gets_no_memory() {
    let (_folder, store) = store(1, 1);
    assert!(store.spill_directory().is_none());
    let _full = store.adopt(memfd(b"abc", SealFlags::SHRINK), 3, false).unwrap();
    assert!(store.spill_directory().is_some());
    let over = memfd(b"abc", SealFlags::SHRINK);
    let error = store.adopt(over.try_clone().unwrap(), 3, true).unwrap_err();
    assert!(matches!(error, AdoptError::Refused(_)), "{error}");
    assert!(store.adopt(over, 3, false).is_ok(), "it was told before memory was full");
}

#[tokio::test]
async fn a_blob_waits_for_the_room_of_one_that_is_about_to_go() {
    let (_folder, store) = store(1, 1);
    let first = store.allocate(PAGE, false).await.unwrap().commit(None).unwrap();
    // A worker has it mapped, and its session has let go.
    let mapped = first.clone();
    first.leave();
    drop(first);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.allocate(PAGE, false).await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(usage(&store).blobs, 1);
    drop(mapped);
    let second = waiting.await.unwrap();
    assert_eq!((usage(&store).memory_bytes, usage(&store).spilled_bytes), (PAGE, 0));
    drop(second);
}

#[tokio::test]
async fn one_that_does_not_go_is_not_waited_for_again() {
    let (_folder, store) = store(1, 2);
    let patient = || store.shared.patient.load(Ordering::Relaxed);
    let first = store.allocate(PAGE, false).await.unwrap().commit(None).unwrap();
    first.leave();
    let second = store.allocate(PAGE, false).await.unwrap();
    assert!(!patient(), "it waited in vain");
    assert_eq!(usage(&store).spilled_bytes, PAGE);
    drop(first);
    assert!(patient(), "the next may be faster");
    drop(second);
}
