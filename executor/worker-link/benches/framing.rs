//! What a frame costs on either side, without the socket.

use std::hint::black_box;

use clutch_worker_link::{
    BatchReport, Frame, FromWorker, RunBatch, ToWorker, read_frame_blocking, write_frame_blocking,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes of a small task's pickle, and of one that carries data.
const PAYLOADS: [usize; 2] = [42, 1 << 20];

fn frames<M: Serialize + DeserializeOwned>(criterion: &mut Criterion, name: &str, message: &M) {
    let mut group = criterion.benchmark_group(name);
    for bytes in PAYLOADS {
        let payload = vec![7; bytes];
        let mut line = Vec::new();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("encode", bytes), |bench| {
            bench.iter(|| {
                line.clear();
                write_frame_blocking(&mut line, message, black_box(&payload)).is_ok()
            });
        });
        group.bench_function(BenchmarkId::new("decode", bytes), |bench| {
            line.clear();
            let written = write_frame_blocking(&mut line, message, &payload);
            assert!(written.is_ok(), "{written:?}");
            bench.iter(|| {
                let mut line = black_box(line.as_slice());
                let frame: Option<Frame<M>> = read_frame_blocking(&mut line, u64::MAX).ok();
                frame.map(|frame| frame.payload.len())
            });
        });
    }
    group.finish();
}

fn both(criterion: &mut Criterion) {
    let run = RunBatch { batch: 123_456, tasks: 1, nesting_level: 1, ..RunBatch::default() };
    frames(criterion, "run", &ToWorker::Run(run));
    let report = BatchReport {
        batch: 123_456,
        received_at: 1 << 50,
        unpickled_at: 1 << 50,
        ran_at: 1 << 50,
        pickled_at: 1 << 50,
        task_nanoseconds: vec![1_000],
        ..BatchReport::default()
    };
    frames(criterion, "done", &FromWorker::Done(report, Vec::new()));
}

criterion_group!(benches, both);
criterion_main!(benches);
