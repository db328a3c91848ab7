//! What the books of the blob store cost: room for a blob, a name for its
//! content, finding it again, and making way for others.

use std::hint::black_box;
use std::time::Duration;

use clutch_executor::blobs::ledger::{Ledger, Limits};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const BLOB_BYTES: u64 = 1 << 20;

fn digest(number: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    digest
}

/// A ledger with so many unused blobs that every new one makes one go.
fn full(blobs: u64) -> Ledger {
    let limits = Limits { memory_bytes: blobs * BLOB_BYTES, spill_bytes: 0, blobs: usize::MAX };
    let mut ledger = Ledger::new(limits);
    for number in 0..blobs {
        if let Ok(granted) = ledger.grant(BLOB_BYTES) {
            ledger.name(granted.blob, digest(number));
            ledger.unpin(granted.blob, Duration::ZERO);
        }
    }
    ledger
}

fn cycles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger");
    for blobs in [16, 16_384] {
        group.bench_function(BenchmarkId::new("grant_name_unpin", blobs), |bench| {
            let mut ledger = full(blobs);
            let mut number = blobs;
            bench.iter(|| {
                number += 1;
                if let Ok(granted) = ledger.grant(BLOB_BYTES) {
                    ledger.name(granted.blob, digest(number));
                    ledger.unpin(granted.blob, Duration::ZERO);
                    black_box(granted.evicted.len());
                }
            });
        });
        group.bench_function(BenchmarkId::new("find_unpin", blobs), |bench| {
            let mut ledger = full(blobs);
            let mut number = 0;
            bench.iter(|| {
                number = (number + 1) % blobs;
                if let Some(blob) = ledger.find(&digest(number)) {
                    black_box(ledger.unpin(blob, Duration::ZERO));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cycles);
criterion_main!(benches);
