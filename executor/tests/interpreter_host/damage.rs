//! Tasks that damage the interpreter.

use clutch_worker_link::{FromWorker, Phase};
use rustix::process::Signal;

use crate::harness::{Worker, Zygote};

/// Everything that a worker does for its next batches.
fn still_works(worker: &mut Worker, damage: &str) {
    assert_eq!(worker.text("'alive'"), "alive", "{damage}");
    // By name, this goes only where the names still lead.
    worker.run(&["lambda: 1"]).ok();
    let failure = worker.failure("1/0");
    assert_eq!((failure.phase, failure.task_index), (Phase::Run, Some(0)), "{damage}");
    let traceback = failure.exception.traceback;
    assert!(traceback.starts_with("Traceback (most"), "{damage}: {traceback}");
    assert!(traceback.contains("File \"<string>\", line 1, in <module>"), "{damage}: {traceback}");
    assert!(traceback.ends_with("ZeroDivisionError: division by zero\n"), "{damage}: {traceback}");
    let lock = "__import__('_thread').allocate_lock()";
    assert_eq!(worker.failure(lock).phase, Phase::Pickle, "{damage}");
}

#[test]
fn a_worker_survives_what_tasks_do_to_modules() {
    let zygote = Zygote::start("numpy,joblib");
    let modules = "pickle,_pickle,cloudpickle,joblib,joblib.parallel,os,io,_io,signal,_signal,\
                   faulthandler,threading,traceback,subprocess,multiprocessing.process,tempfile,\
                   linecache,copyreg,gc,locale,resource,sys"
        .replace(' ', "");
    for damage in ["sys.modules.pop(name, 0)", "sys.modules[name] = None", "sys.modules[name] = 7"]
    {
        let mut worker = zygote.worker();
        let program = format!("import sys\nfor name in {modules:?}.split(','): {damage}");
        worker.run(&[&format!("exec({program:?})")]).unwrap();
        still_works(&mut worker, damage);
    }
}

#[test]
fn a_worker_survives_what_tasks_do_to_functions() {
    let zygote = Zygote::start("joblib");
    for damage in [
        "import pickle; pickle.dumps = pickle.loads = pickle.Pickler = None",
        "import traceback; traceback.TracebackException = traceback.format_exception = None",
        "import joblib.parallel; joblib.parallel.parallel_config = None",
        "import io, os, signal; io.open = os.fork = os.getpid = signal.signal = None",
        "import threading; threading._active = threading.Thread = None",
    ] {
        let mut worker = zygote.worker();
        worker.run(&[&format!("exec({damage:?})")]).unwrap();
        still_works(&mut worker, damage);
    }
}

#[test]
fn deep_recursion_in_c_is_an_exception_or_a_crash_with_a_stack() {
    let zygote = Zygote::start("");
    let nest = "exec('l = []\\nfor _ in range(COUNT): l = [l]') or l";
    let mut worker = zygote.worker();
    let failure = worker.failure(&nest.replace("COUNT", "100000"));
    assert_eq!((failure.phase, failure.task_index), (Phase::Pickle, Some(0)));
    assert!(failure.message.contains("recursion"), "{failure:?}");
    assert_eq!(worker.text("'alive'"), "alive");

    // Versions differ in whether the limit counts calls in C.
    let unlimited = nest.replace("exec('", "exec('import sys; sys.setrecursionlimit(10**6)\\n");
    worker.start(&[&unlimited.replace("COUNT", "900000")]);
    if let Some(frame) = worker.try_receive() {
        assert!(matches!(frame.message, FromWorker::Failed(..)), "{frame:?}");
        assert_eq!(worker.text("'alive'"), "alive");
    } else {
        let (_, signal, _, stderr) = worker.end();
        assert_eq!(signal, Some(Signal::SEGV.as_raw()));
        assert!(stderr.contains("Segmentation fault"), "{stderr}");
    }
}
