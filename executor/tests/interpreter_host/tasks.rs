//! What tasks may do to a worker without ending it.

use clutch_worker_link::Phase;

use crate::harness::{Zygote, batch};

#[test]
fn a_batch_returns_its_results_and_its_times() {
    let zygote = Zygote::start("numpy");
    let mut worker = zygote.worker();
    let (report, pickle) =
        worker.run(&["'fir' + 'st'", "__import__('time').sleep(0.05) or 'second'"]).unwrap();
    let pickle = String::from_utf8_lossy(&pickle);
    assert!(pickle.contains("first") && pickle.contains("second"));
    assert_eq!((report.batch, report.task_nanoseconds.len()), (1, 2));
    assert!(report.task_nanoseconds[1] >= 50_000_000);
    assert!(report.received_at <= report.unpickled_at && report.unpickled_at <= report.ran_at);
    assert!(report.ran_at <= report.pickled_at);
    assert!(report.peak_memory_bytes > 1 << 20 && report.memory_bytes > 0);
}

#[test]
fn a_large_payload_travels_both_ways() {
    let mut worker = Zygote::start("").worker();
    let expression = format!("'{}' * 3", "x".repeat(3 << 20));
    let (_, pickle) = worker.run(&[&expression]).unwrap();
    assert!(pickle.len() > 9 << 20);
}

#[test]
fn an_exception_is_told_with_its_own_frames_only() {
    let mut worker = Zygote::start("").worker();
    let (report, failure, pickle) = *worker.run(&["1", "1/0", "2"]).unwrap_err();
    assert_eq!((failure.phase, failure.task_index), (Phase::Run, Some(1)));
    assert_eq!(failure.message, "task 1 raised ZeroDivisionError: division by zero");
    assert_eq!(failure.exception.type_name, "ZeroDivisionError");
    assert_eq!(failure.exception.text, "division by zero");
    assert!(failure.exception.traceback.starts_with("Traceback"));
    assert!(!failure.exception.traceback.contains("clutch"));
    assert!(String::from_utf8_lossy(&pickle).contains("ZeroDivisionError"));
    assert_eq!(report.task_nanoseconds.len(), 2);
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn sys_exit_and_other_base_exceptions_leave_the_worker_alive() {
    let mut worker = Zygote::start("").worker();
    for (argument, code) in [("", 0), ("7", 7), ("'words'", 1)] {
        let failure = worker.failure(&format!("__import__('sys').exit({argument})"));
        assert_eq!((failure.phase, failure.exit_code), (Phase::Exit, Some(code)));
    }
    assert!(worker.failure("__import__('sys').exit('words')").message.contains("words"));
    for name in ["KeyboardInterrupt", "GeneratorExit", "BaseException", "MemoryError"] {
        let failure = worker.failure(&format!("(_ for _ in ()).throw({name}('x'))"));
        assert_eq!((failure.phase, failure.exception.type_name.as_str()), (Phase::Run, name));
    }
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn endless_recursion_is_an_exception_of_bounded_length() {
    let mut worker = Zygote::start("").worker();
    let failure = worker.failure("exec('def f(): g()\\ndef g(): f()\\ng()')");
    assert_eq!(failure.exception.type_name, "RecursionError");
    assert!(failure.exception.traceback.len() < (64 << 10) + 100);
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn a_result_that_cannot_be_pickled_is_named() {
    let mut worker = Zygote::start("").worker();
    let (_, failure, _) = *worker.run(&["1", "__import__('threading').Lock()"]).unwrap_err();
    assert_eq!((failure.phase, failure.task_index), (Phase::Pickle, Some(1)));
    let expected = "the result of task 1, of type _thread.lock, cannot be pickled: TypeError:";
    assert!(failure.message.starts_with(expected), "{}", failure.message);
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn what_the_driver_cannot_import_goes_by_value() {
    let mut worker = Zygote::start("").worker();
    assert!(worker.run(&["lambda: 1"]).is_ok());
    let in_main = "exec('class Mine: pass\\n__import__(\"__main__\").Mine = Mine\\n\
                   Mine.__module__ = \"__main__\"')";
    worker.run(&[in_main]).unwrap();
    let (_, pickle) = worker.run(&["__import__('__main__').Mine()"]).unwrap();
    assert!(String::from_utf8_lossy(&pickle).contains("cloudpickle"));
}

#[test]
fn an_exception_that_cannot_be_pickled_or_printed_is_told_as_text() {
    let mut worker = Zygote::start("").worker();
    let program = "exec('class E(Exception):\\n def __reduce__(self): 1/0\\n \
                   def __str__(self): 1/0\\nraise E(3)')";
    let (_, failure, pickle) = *worker.run(&[program]).unwrap_err();
    assert!(pickle.is_empty());
    assert!(failure.exception.type_name.ends_with('E') && failure.exception.text.is_empty());
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn a_batch_that_cannot_be_unpickled_fails_alone() {
    use clutch_worker_link::{FromWorker, RunBatch, ToWorker};
    let mut worker = Zygote::start("").worker();
    worker.send(
        &ToWorker::Run(RunBatch { batch: 3, tasks: 1, nesting_level: 1, ..Default::default() }),
        b"cno_such\nmodule\n.",
    );
    let FromWorker::Failed(report, failure) = worker.receive().message else { panic!() };
    assert_eq!((report.batch, failure.phase), (3, Phase::Unpickle));
    assert_eq!(failure.exception.type_name, "ModuleNotFoundError");
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn a_task_that_closes_or_replaces_its_output_loses_no_batch() {
    let mut worker = Zygote::start("").worker();
    for spoil in ["sys.stdout.close()", "sys.stderr.close()", "del sys.stdout"] {
        worker.run(&[&format!("exec('import sys; {spoil}')")]).unwrap();
    }
    worker.run(&["print('still', 'heard')"]).unwrap();
    worker.line.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.end().2, "still heard\n");
}

#[test]
fn a_child_that_a_task_forked_does_not_answer() {
    let mut worker = Zygote::start("").worker();
    let forking = "__import__('os').fork() and 'parent' or 'child'";
    for _ in 0..5 {
        assert_eq!(worker.text(forking), "parent");
    }
    // Nor does it run what is left of the batch.
    worker.run(&[forking, "print('once')"]).unwrap();
    worker.run(&["__import__('os').wait() and None"]).ok();
    worker.line.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.end().2, "once\n");
}

#[test]
fn nested_joblib_calls_use_threads_and_one_job() {
    let mut worker = Zygote::start("joblib").worker();
    let backend = "exec('import joblib\\np = joblib.Parallel()\\n\
                   n = p.n_jobs, type(p._backend).__name__\\nassert n[0] == 1, n\\n\
                   p = joblib.Parallel(n_jobs=2)\\n\
                   assert type(p._backend).__name__ == \"ThreadingBackend\", p._backend\\n\
                   r = p(joblib.delayed(abs)(-i) for i in range(4))\\n\
                   assert r == [0, 1, 2, 3], r')";
    worker.run(&[backend]).unwrap();
}

#[test]
fn a_deeper_nested_joblib_call_runs_one_after_the_other() {
    use clutch_worker_link::{FromWorker, RunBatch, ToWorker};
    let mut worker = Zygote::start("joblib").worker();
    let backend = "type(__import__('joblib').Parallel(n_jobs=2)._backend).__name__ + '!'";
    let run =
        ToWorker::Run(RunBatch { batch: 1, tasks: 1, nesting_level: 2, ..Default::default() });
    worker.send(&run, &batch(&[backend]));
    let answer = worker.receive();
    assert!(matches!(answer.message, FromWorker::Done(..)));
    assert!(String::from_utf8_lossy(&answer.payload).contains("SequentialBackend!"));
}
