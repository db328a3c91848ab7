use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::*;
use crate::blobs::ledger::Usage;
use crate::blobs::store::Store;
use crate::settings::BlobOptions;

const NO_TIME: Duration = Duration::ZERO;

fn store(memory_bytes: u64) -> Store {
    let spill_directory = std::env::temp_dir();
    Store::new(BlobOptions { memory_bytes, spill_directory, spill_bytes: 1 << 20 })
}

fn digest(content: &[u8]) -> Digest {
    *blake3::hash(content).as_bytes()
}

async fn text(reader: &mut Reader, mut offset: u64) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::new();
    while let Some(data) = reader.read(offset, 2).await? {
        offset += data.len() as u64;
        text.extend_from_slice(&data);
    }
    Ok(text)
}

#[tokio::test]
async fn readers_follow_a_content_as_it_comes_and_end_with_it() {
    for memory in [1 << 20, 0] {
        let store = store(memory);
        let name = digest(b"abcdef");
        assert!(store.reader(&name, NO_TIME).await.is_none());
        let filling = store.allocate(6, false).await.unwrap().announced(name);
        let mut reader = store.reader(&name, NO_TIME).await.unwrap();
        assert_eq!(reader.bytes(), 6);
        let filling = filling.write(Bytes::from_static(b"abc")).await.unwrap();
        assert_eq!(reader.read(0, 9).await.unwrap().unwrap(), "abc");
        let follower = tokio::spawn(async move { text(&mut reader, 1).await });
        let filling = filling.write(Bytes::from_static(b"def")).await.unwrap();
        let mut late = store.reader(&name, NO_TIME).await.unwrap();
        assert_eq!(late.read(5, 9).await.unwrap().unwrap(), "f");
        assert!(!follower.is_finished(), "it is not known to be right");
        drop(filling.commit(Some(name)).unwrap());
        assert_eq!(follower.await.unwrap().unwrap(), b"bcdef");
        assert_eq!(text(&mut late, 0).await.unwrap(), b"abcdef");
        let mut whole = store.reader(&name, NO_TIME).await.unwrap();
        assert_eq!(text(&mut whole, 0).await.unwrap(), b"abcdef");
    }
}

#[tokio::test]
async fn readers_of_what_stops_coming_are_told_and_the_room_is_given_back() {
    let store = store(1 << 20);
    let name = digest(b"abc");
    for ends in [false, true] {
        let filling = store.allocate(3, false).await.unwrap().announced(name);
        let mut reader = store.reader(&name, NO_TIME).await.unwrap();
        let filling = filling.write(Bytes::from_static(b"ab")).await.unwrap();
        assert_eq!(reader.read(0, 9).await.unwrap().unwrap(), "ab");
        if ends {
            let filling = filling.write(Bytes::from_static(b"d")).await.unwrap();
            filling.commit(Some(name)).unwrap_err();
        } else {
            drop(filling);
        }
        assert!(matches!(reader.read(3, 9).await, Err(ReadError::GaveUp)));
        assert_eq!(store.usage().0.blobs, 1, "the reader has it");
        drop(reader);
        assert_eq!(store.usage().0, Usage::default());
        assert!(store.reader(&name, NO_TIME).await.is_none());
    }
}

#[tokio::test]
async fn who_asks_before_a_content_is_announced_waits_for_it() {
    let store = store(1 << 20);
    let name = digest(b"abc");
    let asked = store.clone();
    let asks = tokio::spawn(async move { asked.reader(&name, Duration::from_secs(30)).await });
    tokio::task::yield_now().await;
    let _filling = store.allocate(3, false).await.unwrap().announced(name);
    assert!(asks.await.unwrap().is_some());
}

#[tokio::test]
async fn of_two_that_come_the_further_one_is_followed_and_the_other_remains() {
    let store = store(1 << 20);
    let name = digest(b"ab");
    let slow = store.allocate(2, false).await.unwrap().announced(name);
    let fast = store.allocate(2, false).await.unwrap().announced(name);
    let fast = fast.write(Bytes::from_static(b"a")).await.unwrap();
    let mut reader = store.reader(&name, NO_TIME).await.unwrap();
    assert_eq!(reader.read(0, 9).await.unwrap().unwrap(), "a");
    drop(fast);
    assert!(reader.read(1, 9).await.is_err());
    let mut reader = store.reader(&name, NO_TIME).await.unwrap();
    let slow = slow.write(Bytes::from_static(b"ab")).await.unwrap();
    drop(slow.commit(Some(name)).unwrap());
    assert_eq!(text(&mut reader, 0).await.unwrap(), b"ab");
}

#[tokio::test]
async fn what_changed_on_the_disk_is_given_to_nobody_twice() {
    let store = store(0);
    let name = digest(b"abcdef");
    let put = async || {
        let filling = store.allocate(6, false).await.unwrap();
        let filling = filling.write(Bytes::from_static(b"abcdef")).await.unwrap();
        // The store's own is for reading from the commit on; a bad disk needs none.
        let file = File::from(filling.descriptor().try_clone_to_owned().unwrap());
        (filling.commit(Some(name)).unwrap(), file)
    };
    let (blob, file) = put().await;
    let mut sound = store.reader(&name, NO_TIME).await.unwrap();
    assert_eq!(text(&mut sound, 0).await.unwrap(), b"abcdef");
    file.write_at(b"X", 3).unwrap();
    let mut reader = store.reader(&name, NO_TIME).await.unwrap();
    assert!(matches!(text(&mut reader, 0).await, Err(ReadError::Corrupt)));
    assert!(store.reader(&name, NO_TIME).await.is_none(), "nobody finds it any more");
    drop((blob, reader, sound));
    assert_eq!(store.usage().0, Usage::default());
    let (_blob, file) = put().await;
    file.write_at(b"X", 3).unwrap();
    let obtained = store.obtain(name, 6, Vec::new()).await;
    assert!(matches!(obtained, crate::blobs::Obtained::Missing), "{obtained:?}");
}

#[tokio::test]
async fn content_that_nobody_has_used_for_long_goes() {
    let store = store(1 << 20);
    let name = digest(b"a");
    let filling = store.allocate(1, false).await.unwrap();
    let filling = filling.write(Bytes::from_static(b"a")).await.unwrap();
    let blob = filling.commit(Some(name)).unwrap();
    store.expire(NO_TIME);
    assert!(store.lookup(&name).is_some(), "it is in use");
    drop(blob);
    store.expire(Duration::from_secs(3600));
    assert_eq!(store.usage().0.cached, 1);
    store.expire(NO_TIME);
    assert_eq!(store.usage().0, Usage::default());
}
