use std::os::fd::AsRawFd;

use super::*;
use crate::session::Offer;
use crate::settings::BlobOptions;

fn session() -> (Store, Arc<SessionBlobs>) {
    let store = Store::new(BlobOptions {
        memory_bytes: 1 << 20,
        spill_directory: std::env::temp_dir(),
        spill_bytes: 0,
    });
    (store.clone(), Arc::new(SessionBlobs::new(store)))
}

async fn offer(
    blobs: &Arc<SessionBlobs>,
    blob: u64,
    bytes: u64,
    digest: Option<Digest>,
) -> Result<Option<Offered>, Violation> {
    blobs.offer(Offer { blob, bytes, digest, writable: false, sources: Vec::new() }).await
}

async fn present(blobs: &SessionBlobs, blob: u64) {
    blobs.allocate(blob, 1, false).await.unwrap();
    blobs.commit(blob).unwrap();
}

fn uses(named: &[u64]) -> BlobUses {
    let buffers = named.iter().map(|blob| (*blob, Access::Read)).collect();
    BlobUses { buffers, shared: Vec::new() }
}

#[tokio::test]
async fn a_batch_pins_each_blob_once_and_beyond_its_release() {
    let (store, blobs) = session();
    present(&blobs, 1).await;
    present(&blobs, 2).await;
    let mut named = uses(&[1, 2, 1]);
    named.shared.push((2, vec![(1, Access::Copy)]));
    let batch = blobs.resolve(&named).unwrap().unwrap();
    assert_eq!((batch.buffers.len(), batch.shared.len(), batch.held.len()), (3, 1, 2));
    assert_eq!(batch.buffers[0], batch.buffers[2]);
    assert_eq!(batch.shared[0].pickle, batch.buffers[1].blob);
    blobs.release(&[1, 2]).unwrap();
    assert_eq!(store.usage().0.blobs, 2);
    let mut releases = blobs.releases();
    drop(batch);
    assert_eq!(store.usage().0.blobs, 0);
    assert!(releases.has_changed().unwrap(), "workers are told");
    releases.mark_unchanged();
    assert!(blobs.resolve(&uses(&[1])).is_err());
}

#[tokio::test]
async fn two_names_for_one_content_are_one_blob_of_a_batch() {
    let (_store, blobs) = session();
    let digest = Some(*blake3::hash(b"x").as_bytes());
    assert!(matches!(offer(&blobs, 1, 1, digest).await, Ok(Some(Offered::Missing))));
    let sent = blobs.part(1, Bytes::from_static(b"x")).await;
    assert!(matches!(sent, Ok(Some(Offered::Present))), "{sent:?}");
    assert!(matches!(offer(&blobs, 2, 1, digest).await, Ok(Some(Offered::Present))));
    let batch = blobs.resolve(&uses(&[1, 2])).unwrap().unwrap();
    assert_eq!((batch.buffers.len(), batch.held.len()), (2, 1));
    let wrong = offer(&blobs, 3, 2, digest).await;
    assert!(matches!(wrong, Ok(Some(Offered::Refused(_)))), "{wrong:?}");
}

#[tokio::test]
async fn a_blob_that_is_released_while_it_is_filled_is_gone() {
    let (store, blobs) = session();
    let descriptor = blobs.allocate(1, 1, false).await.unwrap();
    assert!(descriptor.as_raw_fd() >= 0);
    blobs.release(&[1]).unwrap();
    assert!(blobs.commit(1).is_err());
    assert_eq!(store.usage().0.blobs, 0);
    // What settles after a release finds no place any more.
    blobs.begin(2, 1).unwrap().unwrap();
    blobs.release(&[2]).unwrap();
    let filling = store.allocate(1, false).await.unwrap();
    blobs.settle(2, filling.commit(None));
    assert_eq!(store.usage().0.blobs, 0);
}

#[test]
fn a_session_has_only_so_many_blobs() {
    let (_store, blobs) = session();
    for blob in 0..MAX_BLOBS as u64 {
        blobs.begin(blob, 1).unwrap().unwrap();
    }
    let failure = blobs.begin(1 << 40, 1).unwrap().unwrap_err();
    assert_eq!(failure.kind, Kind::QuotaExceeded);
    blobs.release(&[7]).unwrap();
    assert!(blobs.begin(1 << 40, 1).unwrap().is_ok());
}

#[tokio::test]
async fn results_have_numbers_of_their_own_and_are_given_away_once() {
    let (store, blobs) = session();
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let made = store.allocate(1, false).await.unwrap().commit(None).unwrap();
        numbers.push(blobs.keep_result(made));
    }
    assert_eq!(numbers, [FIRST_RESULT, FIRST_RESULT + 1]);
    assert!(blobs.take_result(numbers[0]).is_some());
    assert!(blobs.take_result(numbers[0]).is_none());
    blobs.release(&numbers).unwrap();
    assert_eq!(store.usage().0.blobs, 0);
}
