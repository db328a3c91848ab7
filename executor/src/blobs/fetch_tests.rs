use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::*;
use crate::blobs::Obtained;
use crate::blobs::ledger::Usage;
use crate::settings::BlobOptions;

const CONTENT: &[u8] = b"abcdef";

/// Other agents that do as they are told.
#[derive(Debug, Default)]
struct Village {
    asked: Mutex<Vec<(String, u64)>>,
    gate: Mutex<Option<mpsc::Receiver<()>>>,
    open: AtomicUsize,
}

/// Counts streams that somebody holds.
struct Open(Arc<Village>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Villagers(Arc<Village>);

impl Peers for Villagers {
    fn ask(&self, source: String, wanted: Wanted) -> Asked {
        let village = Arc::clone(&self.0);
        village.asked.lock().unwrap().push((source.clone(), wanted.offset));
        let gate = village.gate.lock().unwrap().take();
        Box::pin(async move {
            let rest = &CONTENT[usize::try_from(wanted.offset).unwrap()..];
            let broken = || Err(PeerError("it broke".to_owned()));
            let part = |data: &'static [u8]| Ok(Bytes::from_static(data));
            let parts = match source.as_str() {
                "whole" => vec![part(&rest[..1]), part(&rest[1..])],
                "half" => vec![part(&rest[..3]), broken()],
                "other half" => vec![part(&rest[..3])],
                "liar" => vec![part(b"abXdef")],
                "half liar" => vec![part(b"abX"), broken()],
                "endless" => vec![part(b"abcdefg")],
                "gated" => vec![part(rest)],
                _ => return Err(PeerError("NotFound: no such content".to_owned())),
            };
            village.open.fetch_add(1, Ordering::Relaxed);
            let open = Open(Arc::clone(&village));
            let (sender, receiver) = mpsc::channel(9);
            tokio::spawn(async move {
                let _open = open;
                if let Some(mut gate) = gate {
                    tokio::select! {
                        _ = gate.recv() => {}
                        () = sender.closed() => return,
                    }
                }
                for part in parts {
                    sender.send(part).await.ok();
                }
            });
            let parts: Parts = Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver));
            Ok(parts)
        })
    }
}

fn store() -> (Arc<Village>, Store) {
    let village = Arc::new(Village::default());
    let options = BlobOptions {
        memory_bytes: 1 << 20,
        spill_directory: std::env::temp_dir(),
        spill_bytes: 0,
    };
    let peers = Arc::new(Villagers(Arc::clone(&village)));
    (village, Store::with_peers(options, peers))
}

fn digest() -> Digest {
    *blake3::hash(CONTENT).as_bytes()
}

async fn obtain(store: &Store, sources: &[&str]) -> Obtained {
    let sources = sources.iter().map(|source| (*source).to_owned()).collect();
    store.obtain(digest(), CONTENT.len() as u64, sources).await
}

fn asked(village: &Village) -> Vec<(String, u64)> {
    std::mem::take(&mut *village.asked.lock().unwrap())
}

fn told(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(source, offset)| ((*source).to_owned(), *offset)).collect()
}

#[track_caller]
fn assert_present(obtained: &Obtained) {
    let Obtained::Present(blob) = obtained else { panic!("{obtained:?}") };
    let mut text = vec![0; CONTENT.len()];
    blob.read_at(&mut text, 0).unwrap();
    assert_eq!(text, CONTENT);
}

#[tokio::test]
async fn sources_are_tried_in_order_and_go_on_where_others_broke_off() {
    let (village, store) = store();
    let sources = ["nobody", "half", "nobody else", "other half", "whole"];
    assert_present(&obtain(&store, &sources).await);
    let expected = [("nobody", 0), ("half", 0), ("nobody else", 3), ("other half", 3)];
    assert_eq!(asked(&village), told(&expected));
    assert_present(&obtain(&store, &sources).await);
    assert_eq!(asked(&village), [], "it is here now");
}

#[tokio::test]
async fn wrong_content_is_never_present_and_the_room_is_given_back() {
    for lies in [&["liar"][..], &["endless"], &["half liar", "nobody"], &["nobody"]] {
        let (_village, store) = store();
        let obtained = obtain(&store, lies).await;
        assert!(matches!(obtained, Obtained::Missing), "{lies:?}: {obtained:?}");
        assert_eq!(store.usage().0, Usage::default(), "{lies:?}");
    }
}

#[tokio::test]
async fn after_a_lie_the_next_source_begins_anew() {
    let (village, store) = store();
    assert_present(&obtain(&store, &["liar", "endless", "whole"]).await);
    assert_eq!(asked(&village), told(&[("liar", 0), ("endless", 0), ("whole", 0)]));
}

#[tokio::test]
async fn an_honest_source_that_went_on_from_a_lie_is_asked_for_the_whole() {
    let (village, store) = store();
    assert_present(&obtain(&store, &["half liar", "whole"]).await);
    let expected = [("half liar", 0), ("whole", 3), ("half liar", 0), ("whole", 0)];
    assert_eq!(asked(&village), told(&expected));
}

#[tokio::test]
async fn content_without_room_is_refused() {
    let (_village, store) = store();
    let _full = store.allocate(1 << 20, false).await.unwrap();
    let obtained = obtain(&store, &["whole"]).await;
    let Obtained::Refused(failure) = obtained else { panic!("{obtained:?}") };
    assert_eq!(failure.kind, Kind::QuotaExceeded);
}

#[tokio::test]
async fn several_who_want_the_same_are_one_fetch_until_nobody_wants_it() {
    let (village, store) = store();
    let (open, gate) = mpsc::channel(1);
    *village.gate.lock().unwrap() = Some(gate);
    let begin = || {
        let store = store.clone();
        tokio::spawn(async move { obtain(&store, &["gated"]).await })
    };
    let (first, second) = (begin(), begin());
    while village.open.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    open.send(()).await.unwrap();
    assert_present(&second.await.unwrap());
    assert_eq!(asked(&village), told(&[("gated", 0)]));
}

#[tokio::test]
async fn a_fetch_that_nobody_wants_any_more_is_given_up() {
    let (village, store) = store();
    let (_open, gate) = mpsc::channel(1);
    *village.gate.lock().unwrap() = Some(gate);
    let only = {
        let store = store.clone();
        tokio::spawn(async move { obtain(&store, &["gated"]).await })
    };
    while village.open.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    only.abort();
    while village.open.load(Ordering::Relaxed) > 0 || store.usage().0.blobs > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn others_follow_a_fetch_as_it_comes() {
    let (village, store) = store();
    let (open, gate) = mpsc::channel(1);
    *village.gate.lock().unwrap() = Some(gate);
    let fetching = {
        let store = store.clone();
        tokio::spawn(async move { obtain(&store, &["gated"]).await })
    };
    let reader = store.reader(&digest(), Duration::from_secs(30)).await;
    let mut reader = reader.unwrap();
    assert!(!fetching.is_finished());
    open.send(()).await.unwrap();
    assert_eq!(reader.read(0, 99).await.unwrap().unwrap(), CONTENT);
    assert_present(&fetching.await.unwrap());
    assert!(reader.read(6, 99).await.unwrap().is_none());
}
