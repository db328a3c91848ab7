//! Objects that tasks share: pickled once, unpickled for each task.

use clutch_worker_link::{Access, Phase, RunBatch, SharedObject};

use crate::blobs::{content, pickled, uses};
use crate::harness::{Worker, Zygote};

/// A worker that has a list as blob 1, shared by a batch's tasks.
fn with_shared_list() -> (Worker, RunBatch) {
    let mut worker = Zygote::start("numpy").worker();
    worker.map(1, &pickled("[1, 2]", 0).data);
    let shared = vec![SharedObject { pickle: 1, buffers: Vec::new() }];
    (worker, RunBatch { shared, ..RunBatch::default() })
}

#[test]
fn each_task_has_its_own_object_and_only_one() {
    let (mut worker, run) = with_shared_list();
    let tasks = "[(lambda *a, **k: (a[0].append(3), a, k, a[0] is a[1] is k['b']), \
                 (shared(0), shared(0)), {'b': shared(0), 'c': 4})] * 2";
    let told = worker.run_pickle(run, &pickled(tasks, 0).data).unwrap().evaluate("results");
    let once = "(None, ([1, 2, 3], [1, 2, 3]), {'b': [1, 2, 3], 'c': 4}, True)";
    assert_eq!(told, format!("[{once}, {once}]"));
}

#[test]
fn a_function_and_a_methods_object_can_be_shared() {
    let (mut worker, mut run) = with_shared_list();
    worker.map(2, &pickled("lambda x: x + 1", 0).data);
    run.shared.push(SharedObject { pickle: 2, buffers: Vec::new() });
    let tasks = "[(shared(1), (1,), None), (shared_method(0, 'index'), (2,), {}), \
                 (lambda f: [f(), f()], (shared_method(0, 'pop'),), {})]";
    let told = worker.run_pickle(run, &pickled(tasks, 0).data).unwrap().evaluate("results");
    assert_eq!(told, "[2, 1, [2, 1]]");
}

#[test]
fn a_shared_object_has_blobs_of_its_own() {
    let (mut worker, run) = with_shared_list();
    let object = pickled(
        "{'a': array(0, np.dtype('i8'), (3,), 'C'), 'b': Buffered(bytearray(b'stream')), \
         'c': b'x' * 200000, 'd': list(range(100000))}",
        1,
    );
    worker.map(2, &object.data);
    worker.map(3, &content("np.arange(3)"));
    worker.map(4, &object.streams[0]);
    let mut buffers = uses(&[3], Access::Read);
    buffers.extend(uses(&[4], Access::Copy));
    let run = RunBatch { shared: vec![SharedObject { pickle: 2, buffers }], ..run };
    let task = "(lambda o: (type(o['a']).__name__, o['a'].tolist(), bytes(o['b'].content), \
                o['b'].content.__setitem__(0, 88), o['c'] == b'x' * 200000, sum(o['d'])), \
                (shared(0),), {})";
    let tasks = format!("[{task}] * 2");
    let told = worker.run_pickle(run, &pickled(&tasks, 0).data).unwrap().evaluate("results");
    let once = "('memmap', [0, 1, 2], b'stream', None, True, 4999950000)";
    assert_eq!(told, format!("[{once}, {once}]"));
}

#[test]
fn an_object_that_cannot_be_unpickled_is_its_tasks_failure() {
    let (mut worker, mut run) = with_shared_list();
    worker.map(9, b"\0\0\0\0cno_such\nmodule\n.");
    run.shared.push(SharedObject { pickle: 9, buffers: Vec::new() });
    for (object, expected) in [
        ("shared(1)", "No module named 'no_such'"),
        ("shared_method(0, 'none')", "no attribute 'none'"),
        ("shared(2)", "the task uses shared object 2 of 2"),
    ] {
        let tasks = format!("[(len, (shared(0),), {{}}), (len, ({object},), {{}})]");
        let failure = worker.run_pickle(run.clone(), &pickled(&tasks, 0).data).unwrap_err();
        assert_eq!((failure.phase, failure.task_index), (Phase::Unpickle, Some(1)));
        let begin = "an argument of task 1 cannot be unpickled: ";
        let message = &failure.message;
        assert!(message.starts_with(begin) && message.contains(expected), "{message}");
        assert!(!failure.exception.traceback.contains("clutch"), "{failure:?}");
    }
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn a_shared_object_that_was_never_given_fails_the_batch() {
    let (mut worker, run) = with_shared_list();
    let run = RunBatch { shared: vec![SharedObject { pickle: 3, buffers: Vec::new() }], ..run };
    let failure =
        worker.run_pickle(run, &pickled("[(len, (shared(0),), {})]", 0).data).unwrap_err();
    assert_eq!((failure.phase, failure.task_index), (Phase::Unpickle, None));
    assert!(failure.message.contains("not given blob 3"), "{}", failure.message);
}
