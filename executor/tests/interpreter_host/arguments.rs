//! Arguments that are blobs.

use std::os::fd::{AsFd, AsRawFd};

use clutch_worker_link::{Access, MappedBlob, Phase, RunBatch, ToWorker, send_with_descriptors};

use crate::blobs::{content, pickled, sealed, uses, writable};
use crate::harness::Zygote;

/// Three 8-byte integers, all zero.
const ZEROS: &str = "array(0, np.dtype('i8'), (3,), 'C')";

#[test]
fn an_array_is_a_memmap_of_its_blob() {
    let mut worker = Zygote::start("numpy").worker();
    let arrays = [
        ("np.arange(6).reshape(2, 3)", "np.dtype('i8'), (2, 3), 'C'"),
        ("np.asfortranarray(np.arange(6.).reshape(2, 3))", "np.dtype('f8'), (2, 3), 'F'"),
        ("np.array([(1, 2.5), (3, 4.5)], 'i2,f8')", "np.dtype('i2,f8'), (2,), 'C'"),
    ];
    for (blob, (array, description)) in (0..).zip(arrays) {
        worker.map(blob, &content(array));
        let task = format!(
            "[(lambda a: (type(a).__name__, a.mode, a.offset, a.flags.writeable, \
             a.flags.f_contiguous, a.tolist()), (array(0, {description}),), {{}})]"
        );
        let told = worker.run_arrays(&task, uses(&[blob], Access::Read));
        let fortran = if description.contains("'F'") || blob == 2 { "True" } else { "False" };
        let values = ["[[0, 1, 2], [3, 4, 5]]", "[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]"];
        let values = values.get(usize::try_from(blob).unwrap()).unwrap_or(&"[(1, 2.5), (3, 4.5)]");
        assert_eq!(told, format!("[('memmap', 'r', 0, False, {fortran}, {values})]"));
    }
}

#[test]
fn a_large_array_costs_a_worker_no_memory_and_leaves_with_its_blob() {
    const BYTES: usize = 200 << 20;
    let mut worker = Zygote::start("numpy").worker();
    let before = (worker.anonymous_bytes(), worker.open_descriptors());
    worker.map(77, &vec![1; BYTES]);
    let task =
        format!("[(lambda a: int(a.sum()), (array(0, np.dtype('u1'), ({BYTES},), 'C'),), {{}})]");
    assert_eq!(worker.run_arrays(&task, uses(&[77], Access::Read)), format!("[{BYTES}]"));
    let grown = worker.anonymous_bytes().saturating_sub(before.0);
    assert!(grown < 20 << 20, "grew by {grown} bytes");
    assert_eq!(worker.blob_maps(), 1);

    worker.send(&ToWorker::Forget(vec![77]), &[]);
    // An answer shows that the worker has come so far.
    assert_eq!(worker.text("'alive'"), "alive");
    assert_eq!((worker.blob_maps(), worker.open_descriptors()), (0, before.1));
}

#[test]
fn an_array_to_be_read_cannot_be_written() {
    let mut worker = Zygote::start("numpy").worker();
    worker.map(1, &[0; 24]);
    let run = RunBatch { buffers: uses(&[1], Access::Read), ..RunBatch::default() };
    let tasks = format!("[(lambda a: a.fill(1), ({ZEROS},), {{}})]");
    let failure = worker.run_pickle(run, &pickled(&tasks, 1).data).unwrap_err();
    assert_eq!((failure.phase, failure.task_index), (Phase::Run, Some(0)));
    assert!(failure.message.contains("read-only"), "{}", failure.message);
}

#[test]
fn writes_to_a_copy_are_seen_by_nobody_else() {
    let zygote = Zygote::start("numpy");
    let blob = sealed(&[0; 24]);
    let tasks =
        format!("[(lambda a: (a.mode, a.tolist(), a.fill(1), a.tolist()), ({ZEROS},), {{}})]");
    let mut first = zygote.worker();
    // A later batch of the same worker is somebody else, too.
    for worker in [&mut first, &mut zygote.worker()] {
        worker.map_file(1, 24, &blob);
        for _ in 0..2 {
            let told = worker.run_arrays(&tasks, uses(&[1], Access::Copy));
            assert_eq!(told, "[('c', [0, 0, 0], None, [1, 1, 1])]");
        }
    }
}

#[test]
fn writes_to_shared_memory_are_seen_by_every_worker() {
    let zygote = Zygote::start("numpy");
    let blob = writable(&[0; 24]);
    let tasks = format!("[(lambda a: (a.mode, a.tolist(), a.__iadd__(1) is a), ({ZEROS},), {{}})]");
    for value in 0..3 {
        let mut worker = zygote.worker();
        worker.map_file(1, 24, &blob);
        let told = worker.run_arrays(&tasks, uses(&[1], Access::Write));
        assert_eq!(told, format!("[('r+', [{value}, {value}, {value}], True)]"));
    }
}

#[test]
fn a_private_array_is_an_ordinary_one() {
    let mut worker = Zygote::start("numpy").worker();
    worker.map(1, &content("np.asfortranarray(np.arange(6).reshape(2, 3))"));
    let task = "[(lambda a: (type(a).__name__, a.flags.f_contiguous, a.flags.owndata, \
                a.tolist(), a.fill(1)), (private_array(0, np.dtype('i8'), (2, 3), 'F'),), {})]";
    for _ in 0..2 {
        let told = worker.run_arrays(task, uses(&[1], Access::Read));
        assert_eq!(told, "[('ndarray', True, True, [[0, 1, 2], [3, 4, 5]], None)]");
    }
}

#[test]
fn other_buffers_of_a_pickle_are_blobs_too() {
    let mut worker = Zygote::start("numpy").worker();
    let tasks = format!(
        "[(lambda a, b, c: (a.tolist(), bytes(b.content), memoryview(b.content).readonly, \
         c.content.__setitem__(0, 88), bytes(c.content)), \
         ({ZEROS}, Buffered(b'to read'), Buffered(bytearray(b'to write'))), {{}})]"
    );
    let pickle = pickled(&tasks, 1);
    assert_eq!(pickle.streams, [b"to read".to_vec(), b"to write".to_vec()]);
    worker.map(5, &[0; 24]);
    worker.map(6, b"to read");
    worker.map(7, b"to write");
    let mut buffers = uses(&[5, 6], Access::Read);
    buffers.extend(uses(&[7], Access::Copy));
    for _ in 0..2 {
        let run = RunBatch { buffers: buffers.clone(), ..RunBatch::default() };
        let told = worker.run_pickle(run, &pickle.data).unwrap().evaluate("results");
        assert_eq!(told, "[([0, 0, 0], b'to read', True, None, b'Xo write')]");
    }
}

#[test]
fn processes_of_a_task_open_the_array_by_its_name() {
    let mut worker = Zygote::start("numpy,joblib").worker();
    worker.map(1, &content("np.arange(3)"));
    let task = "[(lambda a: __import__('joblib').Parallel(n_jobs=2, backend='loky')(\
                __import__('joblib').delayed(lambda b: (b.filename, b.tolist()))(c) \
                for c in [a, a[1:]]) == [(a.filename, [0, 1, 2]), (a.filename, [1, 2])], \
                (array(0, np.dtype('i8'), (3,), 'C'),), {})]";
    assert_eq!(worker.run_arrays(task, uses(&[1], Access::Read)), "[True]");
}

#[test]
fn a_descriptor_that_the_kernel_will_not_share_for_reading_is_opened_anew() {
    let mut worker = Zygote::start("numpy").worker();
    // Older kernels refuse those of sealed memory; every kernel refuses this.
    let blob = sealed(&[0; 24]);
    let path = format!("/proc/self/fd/{}", blob.as_raw_fd());
    let to_write = std::fs::File::options().write(true).open(path).unwrap();
    worker.map_file(1, 24, &to_write.into());
    let tasks = format!("[(lambda a: a.tolist(), ({ZEROS},), {{}})]");
    assert_eq!(worker.run_arrays(&tasks, uses(&[1], Access::Read)), "[[0, 0, 0]]");
}

#[test]
fn a_blob_that_is_missing_or_too_short_is_named() {
    let mut worker = Zygote::start("numpy").worker();
    worker.map_file(8, 25, &sealed(&[0; 24]));
    let payload = pickled(&format!("[(len, ({ZEROS},), {{}})]"), 1).data;
    for (blob, expected) in
        [(7, "this worker was not given blob 7"), (8, "blob 8 has 24 bytes instead of 25")]
    {
        let run = RunBatch { buffers: uses(&[blob], Access::Read), ..RunBatch::default() };
        let failure = worker.run_pickle(run, &payload).unwrap_err();
        assert_eq!((failure.phase, failure.task_index), (Phase::Unpickle, None));
        assert!(failure.message.ends_with(expected), "{}", failure.message);
    }
    let payload = pickled(&format!("[(len, ({},), {{}})]", ZEROS.replace("(0", "(3")), 1).data;
    let run = RunBatch { buffers: uses(&[8], Access::Read), ..RunBatch::default() };
    worker.map(8, &[0; 24]);
    let failure = worker.run_pickle(run, &payload).unwrap_err();
    assert!(failure.message.contains("the pickle uses blob 3 of 1"), "{}", failure.message);
    assert!(!failure.exception.traceback.contains("clutch"), "{}", failure.exception.traceback);
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn descriptors_that_no_message_announced_end_the_worker() {
    let blob = sealed(b"blob");
    let announced = ToWorker::Map(vec![MappedBlob { blob: 1, bytes: 4 }; 2]);
    for (message, expected) in [
        (ToWorker::Forget(Vec::new()), "expected 0 descriptors with the message, got 1"),
        (announced, "expected 2 descriptors with the message, got 1"),
    ] {
        let worker = Zygote::start("").worker();
        send_with_descriptors(&worker.line, &message, &[blob.as_fd()]).unwrap();
        worker.line.shutdown(std::net::Shutdown::Write).unwrap();
        let (code, _, _, stderr) = worker.end();
        assert_eq!(code, Some(1));
        assert!(stderr.contains(expected), "{stderr}");
    }
}
