//! Results with large buffers.

use clutch_worker_link::{Access, Phase, RunBatch};
use rustix::fs::SealFlags;

use crate::blobs::{content, pickled, uses};
use crate::harness::Zygote;

#[test]
fn large_buffers_travel_beside_the_pickle() {
    let mut worker = Zygote::start("").worker();
    let function = "lambda: (np.arange(300001, dtype='u1'), np.full((600, 600), 2.), np.arange(9))";
    let done = worker.results_of(function, RunBatch::default());
    assert_eq!(done.lengths, [300_001, 2_880_000]);
    assert!(done.pickle.len() < 1000, "{}", done.pickle.len());
    let seals = rustix::fs::fcntl_get_seals(done.file.as_ref().unwrap()).unwrap();
    assert_eq!(seals, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL);
    let told = done.evaluate(
        "[(a.flags.writeable, a.shape, a.sum()) for a in results[0]], results[0][0][300]",
    );
    let sum = (0..300_001_u64).map(|n| n % 256).sum::<u64>();
    let expected = format!(
        "[(True, (300001,), np.uint64({sum})), (True, (600, 600), np.float64(720000.0)), \
         (True, (9,), np.int64(36))] 44"
    );
    assert_eq!(told, expected);
}

#[test]
fn small_buffers_travel_inside() {
    let mut worker = Zygote::start("numpy").worker();
    for function in ["lambda: np.zeros(32767)", "lambda: [1, 2.5, 'text', None]", "lambda: 7"] {
        let done = worker.results_of(function, RunBatch::default());
        assert!(done.lengths.is_empty() && done.file.is_none(), "{function}");
    }
}

#[test]
fn every_array_arrives_plain_and_writable() {
    let mut worker = Zygote::start("numpy").worker();
    // Larger and smaller than what stays inside.
    for side in [300, 3] {
        let array = format!("np.arange({side} * {side}, dtype='f8').reshape({side}, {side})");
        worker.map(1, &content(&array));
        let task = format!(
            "[(lambda m: (m, m[1:], m[:, 1:], m[::-1], m.T, np.asarray(m), np.asfortranarray(m), \
             np.broadcast_to(m[0], m.shape), m.copy().T, m[1:].view(np.ndarray)), \
             (array(0, np.dtype('f8'), ({side}, {side}), 'C'),), {{}})]"
        );
        let run = RunBatch { buffers: uses(&[1], Access::Read), ..RunBatch::default() };
        let done = worker.run_pickle(run, &pickled(&task, 1).data).unwrap();
        assert_eq!(done.lengths.len(), if side == 300 { 10 } else { 0 });
        let told = done.evaluate(&format!(
            "(lambda m, r: [(type(a).__name__, a.flags.writeable, np.array_equal(a, b), a.fill(0)) \
             for a, b in zip(r, [m, m[1:], m[:, 1:], m[::-1], m.T, m, m, \
             np.broadcast_to(m[0], m.shape), m.T, m[1:]])])({array}, results[0])"
        ));
        let once = "('ndarray', True, True, None)";
        assert_eq!(told, format!("[{}]", [once; 10].join(", ")), "{side}");
    }
    // The blob's memory was only read.
    let task = "[(lambda m: m.tolist(), (array(0, np.dtype('f8'), (2,), 'C'),), {})]";
    assert_eq!(worker.run_arrays(task, uses(&[1], Access::Read)), "[[0.0, 1.0]]");
}

#[test]
fn arrays_of_objects_and_of_nothing_arrive() {
    let mut worker = Zygote::start("numpy").worker();
    let function = "lambda: [np.array([1, 'two', None] * 40000, dtype=object).reshape(2, -1).T, \
                    np.broadcast_to(np.zeros(0), (3, 0)), np.zeros(50000, 'i2,f8')[::2]]";
    let done = worker.results_of(function, RunBatch::default());
    let told = done.evaluate("[(a.shape, a.dtype.str, a.flags.writeable) for a in results[0]]");
    assert_eq!(told, "[((60000, 2), '|O', True), ((3, 0), '<f8', True), ((25000,), '|V10', True)]");
}

#[test]
fn times_travel_beside_the_pickle_too() {
    let mut worker = Zygote::start("numpy").worker();
    let function = "lambda: np.broadcast_to(np.arange(3).astype('M8[s]'), (50000, 3)).T";
    let done = worker.results_of(function, RunBatch::default());
    assert_eq!(done.lengths, [1_200_000]);
    let told =
        done.evaluate("(lambda a: (a.dtype.str, a.flags.writeable, str(a[2, 7])))(results[0])");
    assert_eq!(told, "('<M8[s]', True, '1970-01-01T00:00:02')");
}

#[test]
fn what_goes_by_value_has_large_buffers_too() {
    let mut worker = Zygote::start("numpy").worker();
    let function = "lambda: (lambda a: lambda: (a.shape, a.flags.writeable, float(a.sum())))(\
                    np.broadcast_to(np.ones(1000), (500, 1000)))";
    let done = worker.results_of(function, RunBatch::default());
    assert_eq!(done.lengths, [4_000_000]);
    assert!(String::from_utf8_lossy(&done.pickle).contains("cloudpickle"));
    assert_eq!(done.evaluate("results[0]()"), "((500, 1000), True, 500000.0)");
}

#[test]
fn types_that_a_task_registers_are_pickled_as_it_says() {
    let mut worker = Zygote::start("numpy").worker();
    let function = "lambda: __import__('copyreg').pickle(slice, lambda s: (str, ('mine',))) \
                    or [slice(1), np.zeros(40000)]";
    let done = worker.results_of(function, RunBatch::default());
    assert_eq!(done.evaluate("results[0][0]"), "mine");
}

#[test]
fn large_buffers_go_to_a_directory_when_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    let mut worker = Zygote::start("numpy").worker();
    let run = RunBatch { spill_directory: path.clone(), ..RunBatch::default() };
    let done = worker.results_of("lambda: np.ones(100000)", run.clone());
    assert_eq!(done.evaluate("results[0].sum()"), "100000.0");
    let status = rustix::fs::fstat(done.file.as_ref().unwrap()).unwrap();
    let of_directory = rustix::fs::stat(directory.path()).unwrap();
    assert_eq!((status.st_dev, status.st_nlink), (of_directory.st_dev, 0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn buffers_that_cannot_be_written_fail_their_batch_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    let mut worker = Zygote::start("numpy").worker();
    let too_large = "lambda: __import__('resource').setrlimit(1, (500000, -1)) or np.ones(100000)";
    let missing = format!("{path}/missing");
    for (directory, function, reason) in [
        (missing.as_str(), "lambda: np.ones(100000)", "No such file or directory"),
        (path.as_str(), too_large, "File too large"),
        ("", too_large, "File too large"),
    ] {
        let run = RunBatch { spill_directory: directory.to_owned(), ..RunBatch::default() };
        let failure = worker.run_function(function, run).unwrap_err();
        assert_eq!((failure.phase, failure.task_index), (Phase::TooLarge, None));
        let place = if directory.is_empty() { "shared memory" } else { directory };
        let begin = format!("the results' buffers of 800000 bytes do not fit into {place}: ");
        let message = &failure.message;
        assert!(message.starts_with(&begin) && message.contains(reason), "{message}");
        assert_eq!(worker.text("'alive'"), "alive");
    }
}
