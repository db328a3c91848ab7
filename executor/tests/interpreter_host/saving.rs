//! Results that are sent ahead.

use clutch_worker_link::{Access, Phase, RunBatch};

use crate::blobs::{Done, content, pickled, uses};
use crate::harness::{Worker, Zygote};

/// A task that takes longer than results wait to be saved.
fn slow(value: &str) -> String {
    format!("__import__('time').sleep(0.21) or {value}")
}

fn evaluate(pickle: &[u8], expression: &str) -> String {
    Done { pickle: pickle.to_vec(), lengths: Vec::new(), file: None }.evaluate(expression)
}

/// The saved results and those of the answer, and how many times came with each.
fn results(worker: &mut Worker, tasks: &[&str]) -> Vec<(String, usize)> {
    let (report, pickle) = worker.run(tasks).unwrap();
    let saved = worker.saved.iter().map(|(report, pickle)| {
        assert_eq!(report.batch, 1);
        (evaluate(pickle, "results"), report.task_nanoseconds.len())
    });
    saved.chain([(evaluate(&pickle, "results"), report.task_nanoseconds.len())]).collect()
}

#[test]
fn finished_results_go_ahead_of_a_long_batch() {
    let mut worker = Zygote::start("").worker();
    let results = results(&mut worker, &["'a'", &slow("'b'"), &slow("'c'"), &slow("'d'")]);
    let expected = [("['a', 'b']", 2), ("['c']", 1), ("['d']", 1)];
    assert_eq!(results, expected.map(|(results, times)| (String::from(results), times)));
}

#[test]
fn a_batch_of_one_and_a_short_one_save_nothing() {
    let mut worker = Zygote::start("").worker();
    let tasks: &[&[&str]] = &[&[&slow("'a'")], &["'a'", "'b'"]];
    for tasks in tasks {
        assert_eq!(results(&mut worker, tasks).len(), 1);
    }
}

#[test]
fn what_is_large_or_slow_to_pickle_is_not_saved_again() {
    let zygote = Zygote::start("");
    let large = slow("'x' * (2 << 20)");
    let mut worker = zygote.worker();
    worker.run(&[&large, &slow("1"), &slow("2")]).unwrap();
    assert!(worker.saved.is_empty());

    let mut worker = zygote.worker();
    let class = "exec('import time\\nclass C:\\n def __reduce__(self):\\n  \
                 time.sleep(0.05)\\n  return int, ()') or C()";
    worker.run(&[class, &slow("1"), &slow("2"), "3"]).unwrap();
    assert_eq!(worker.saved.len(), 1);
    assert_eq!(evaluate(&worker.saved[0].1, "results"), "[0, 1]");
}

#[test]
fn what_does_not_pickle_is_the_answers_to_tell() {
    let mut worker = Zygote::start("").worker();
    let lock = "__import__('threading').Lock()";
    let tasks: [(&[&str], _, _); 2] =
        [(&[&slow(lock), &slow("1"), "2"], 0, 0), (&[&slow("1"), "2", lock], 1, 2)];
    for (tasks, saved, index) in tasks {
        worker.saved.clear();
        let (_, failure, _) = *worker.run(tasks).unwrap_err();
        assert_eq!((failure.phase, failure.task_index), (Phase::Pickle, Some(index)));
        assert_eq!(worker.saved.len(), saved);
    }
}

#[test]
fn saved_arrays_are_plain_and_writable_and_lambdas_go_by_value() {
    let mut worker = Zygote::start("numpy").worker();
    worker.map(1, &content("np.arange(3)"));
    let tasks = "[(lambda a: __import__('time').sleep(0.21) or (a, lambda: 7), \
                 (array(0, np.dtype('i8'), (3,), 'C'),), {}), (len, ('',), {})]";
    let run = RunBatch { buffers: uses(&[1], Access::Read), tasks: 2, ..RunBatch::default() };
    worker.run_pickle(run, &pickled(tasks, 1).data).unwrap();
    let told = "(lambda a, f: (type(a).__name__, a.flags.writeable, a.tolist(), f()))(*results[0])";
    assert_eq!(evaluate(&worker.saved[0].1, told), "('ndarray', True, [0, 1, 2], 7)");
}

#[test]
fn what_was_saved_is_not_run_again() {
    let mut worker = Zygote::start("").worker();
    let (report, pickle) = worker.run_from(2, &["1/0", "1/0", "'c'", "'d'"]).unwrap();
    assert_eq!(evaluate(&pickle, "results"), "['c', 'd']");
    assert_eq!(report.task_nanoseconds.len(), 2);
    let failure = worker.run_from(1, &["1/0", "2", "1/0"]).unwrap_err().1;
    assert_eq!((failure.phase, failure.task_index), (Phase::Run, Some(2)));
    let unpicklable = &["1", "__import__('threading').Lock()"];
    let failure = worker.run_from(1, unpicklable).unwrap_err().1;
    assert_eq!((failure.phase, failure.task_index), (Phase::Pickle, Some(1)));
}
