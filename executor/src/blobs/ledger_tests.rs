use super::*;

const PAGE: u64 = PAGE_BYTES;
const NOW: Duration = Duration::ZERO;

fn ledger(memory: u64, spill: u64) -> Ledger {
    Ledger::new(Limits { memory_bytes: memory * PAGE, spill_bytes: spill * PAGE, blobs: 9 })
}

fn digest(number: u8) -> Digest {
    [number; 32]
}

/// A blob of so many pages with a name, which nobody uses any more.
fn cached(ledger: &mut Ledger, pages: u64, number: u8) -> u64 {
    let granted = ledger.grant(pages * PAGE).unwrap();
    assert!(ledger.name(granted.blob, digest(number)));
    assert!(!ledger.unpin(granted.blob, NOW));
    granted.blob
}

#[test]
fn memory_comes_first_then_disk_then_a_refusal_that_names_both_bounds() {
    let mut ledger = ledger(2, 3);
    assert_eq!(ledger.grant(PAGE + 1).unwrap().place, Place::Memory);
    assert_eq!(ledger.grant(1).unwrap().place, Place::Disk);
    let failure = ledger.grant(2 * PAGE + 1).unwrap_err();
    assert_eq!(failure.kind, Kind::QuotaExceeded);
    for named in ["8193 bytes", "8192 of 8192", "`blob-memory-bytes`", "4096 of 12288"] {
        assert!(failure.message.contains(named), "{}", failure.message);
    }
    assert_eq!(ledger.grant(2 * PAGE).unwrap().place, Place::Disk);
}

#[test]
fn what_is_unpinned_gives_its_room_back() {
    let mut ledger = ledger(1, 0);
    for _ in 0..3 {
        let granted = ledger.grant(1).unwrap();
        assert!(ledger.grant(1).is_err());
        assert!(ledger.unpin(granted.blob, NOW));
    }
    assert_eq!(ledger.usage(), Usage::default());
}

#[test]
fn named_content_stays_until_room_is_needed_and_the_longest_unused_goes_first() {
    let mut ledger = ledger(3, 0);
    let first = cached(&mut ledger, 1, 1);
    let second = cached(&mut ledger, 1, 2);
    assert_eq!(ledger.find(&digest(1)), Some(first));
    assert!(!ledger.unpin(first, NOW));
    let granted = ledger.grant(2 * PAGE).unwrap();
    assert_eq!(granted.evicted, [second], "the other was used later");
    assert_eq!(ledger.find(&digest(2)), None);
    assert_eq!(ledger.find(&digest(1)), Some(first));
}

#[test]
fn what_is_in_use_is_never_evicted() {
    let mut ledger = ledger(2, 0);
    let kept = cached(&mut ledger, 2, 1);
    assert_eq!(ledger.find(&digest(1)), Some(kept));
    assert_eq!(ledger.find(&digest(1)), Some(kept));
    assert!(!ledger.unpin(kept, NOW), "one use is left");
    assert!(ledger.grant(1).is_err());
    assert!(!ledger.unpin(kept, NOW));
    assert_eq!(ledger.grant(1).unwrap().evicted, [kept]);
}

#[test]
fn nothing_is_evicted_for_a_blob_that_does_not_fit_anyway() {
    let mut ledger = ledger(2, 2);
    let kept = cached(&mut ledger, 1, 1);
    let granted = ledger.grant(PAGE * 2).unwrap();
    assert_eq!((granted.place, granted.evicted), (Place::Memory, vec![kept]));
    cached(&mut ledger, 1, 2);
    assert!(ledger.grant(PAGE * 3).is_err());
    assert_eq!(ledger.usage().cached, 1);
}

#[test]
fn the_second_blob_with_a_content_does_not_take_the_name() {
    let mut ledger = ledger(2, 0);
    let first = ledger.grant(1).unwrap().blob;
    let second = ledger.grant(1).unwrap().blob;
    assert!(ledger.name(first, digest(1)));
    assert!(!ledger.name(second, digest(1)));
    assert!(ledger.unpin(second, NOW), "it has no name to be found by");
    assert_eq!(ledger.find(&digest(1)), Some(first));
}

#[test]
fn a_result_of_a_worker_that_was_not_told_otherwise_may_pass_the_bound_of_memory() {
    let mut ledger = ledger(2, 9);
    ledger.grant(PAGE).unwrap();
    assert!(!ledger.spills());
    let over = ledger.book(5 * PAGE, Place::Memory, true).unwrap();
    assert!(ledger.spills());
    assert!(ledger.book(1, Place::Memory, false).is_err());
    assert_eq!(ledger.book(1, Place::Disk, false).unwrap().place, Place::Disk);
    assert!(ledger.unpin(over.blob, NOW));
    assert!(!ledger.spills());
}

#[test]
fn a_result_keeps_to_memory_when_nothing_may_go_to_disk() {
    let mut ledger = ledger(2, 0);
    assert!(ledger.book(3 * PAGE, Place::Memory, true).is_err());
    assert!(ledger.book(2 * PAGE, Place::Memory, true).is_ok());
    assert!(!ledger.spills());
}

#[test]
fn there_are_only_so_many_descriptors() {
    let limits = Limits { memory_bytes: 99 * PAGE, spill_bytes: 0, blobs: 2 };
    let mut ledger = Ledger::new(limits);
    let kept = cached(&mut ledger, 1, 1);
    ledger.grant(1).unwrap();
    assert_eq!(ledger.grant(1).unwrap().evicted, [kept]);
    let failure = ledger.grant(1).unwrap_err();
    assert!(failure.message.contains("RLIMIT_NOFILE"), "{}", failure.message);
}

#[test]
fn lengths_that_overflow_are_refused() {
    let mut ledger = ledger(2, 2);
    assert!(ledger.grant(u64::MAX).is_err());
    assert!(ledger.book(u64::MAX, Place::Memory, true).is_err());
}

#[test]
fn what_nobody_uses_goes_when_it_is_old_and_the_rest_stays() {
    let at = Duration::from_secs;
    let mut ledger = ledger(2, 1);
    let mut granted = Vec::new();
    for number in 1..=3 {
        let blob = ledger.grant(PAGE).unwrap().blob;
        assert!(ledger.name(blob, digest(number)));
        granted.push(blob);
    }
    for (seconds, blob) in [(1, granted[2]), (2, granted[0]), (3, granted[1])] {
        assert!(!ledger.unpin(blob, at(seconds)));
    }
    assert_eq!(ledger.find(&digest(1)), Some(granted[0]), "used again");
    assert_eq!(ledger.expire(at(1)), Vec::<u64>::new());
    assert_eq!(ledger.expire(at(3)), [granted[2]], "it is on the disk");
    assert_eq!(ledger.expire(at(9)), [granted[1]]);
    assert!(!ledger.unpin(granted[0], at(9)));
    assert_eq!(ledger.expire(at(9)), Vec::<u64>::new());
    assert_eq!((ledger.usage().blobs, ledger.usage().cached), (1, 1));
}

#[test]
fn a_blob_without_its_name_is_not_found_and_goes_with_its_last_user() {
    let mut ledger = ledger(1, 0);
    let blob = ledger.grant(1).unwrap().blob;
    assert!(ledger.name(blob, digest(1)));
    ledger.disown(blob);
    assert_eq!(ledger.find(&digest(1)), None);
    assert!(ledger.unpin(blob, NOW));
    assert_eq!(ledger.usage(), Usage::default());
}
