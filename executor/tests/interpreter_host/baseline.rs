//! What a worker restores between batches.

use clutch_worker_link::{FromWorker, RunBatch, ToWorker};
use rustix::process::Signal;

use crate::harness::{Stream, Worker, Zygote};

/// Runs a statement in front of an expression of a text, for so long that
/// everything is looked at when it has ended.
fn after(statement: &str, expression: &str) -> String {
    format!("exec({statement:?}) or __import__('time').sleep(0.001) or {expression}")
}

/// Has a batch change something; the next batch must not see it.
fn is_restored(worker: &mut Worker, change: &str, probe: &str) {
    let before = worker.text(probe);
    assert_ne!(worker.text(&after(change, probe)), before, "not changed by {change}");
    assert_eq!(worker.text(probe), before, "after {change}");
    let (report, _) = worker.run(&["1"]).unwrap();
    assert!(report.leftovers.changed.is_empty(), "{change}: {:?}", report.leftovers);
}

#[test]
fn the_place_of_the_process_is_restored() {
    let mut worker = Zygote::start("").worker();
    let umask = "oct(__import__('os').umask(0o77))";
    let locale = "__import__('locale').setlocale(6)[:200]";
    for (change, probe) in [
        ("import os; os.chdir('/usr')", "__import__('os').getcwd()"),
        ("import os; os.umask(0o70)", umask),
        ("import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8')", locale),
        ("import sys; sys.setrecursionlimit(3000)", "str(__import__('sys').getrecursionlimit())"),
    ] {
        is_restored(&mut worker, change, probe);
    }
}

#[test]
fn a_directory_that_was_moved_is_found_again() {
    let parent = tempfile::tempdir().unwrap();
    let parent = parent.path().canonicalize().unwrap();
    let [old, new] = ["old", "new"].map(|name| parent.join(name).to_str().unwrap().to_owned());
    std::fs::create_dir(&old).unwrap();
    let mut worker = Zygote::start("").bare_worker();
    worker.set_up(Vec::new(), 1, format!("(Vcwd\nV{old}\nd.").as_bytes());
    assert_eq!(worker.text("__import__('os').getcwd()"), old);
    let moving = format!("exec('import os; os.chdir(\"/\"); os.rename({old:?}, {new:?})')");
    worker.run(&[&moving]).unwrap();
    assert_eq!(worker.text("__import__('os').getcwd()"), new);
}

#[test]
fn variables_are_restored_for_python_and_for_c() {
    let mut worker = Zygote::start("").worker();
    worker
        .run(&["exec('import ctypes; ctypes.CDLL(None).getenv.restype = ctypes.c_char_p')"])
        .unwrap();
    let probe = "repr([(name, __import__('os').environ.get(name), \
                 (lambda f: setattr(f, 'restype', __import__('ctypes').c_char_p) or f(name.encode()))\
                 (__import__('ctypes').CDLL(None).getenv)) \
                 for name in ('CLUTCH_WORKER', 'LOKY_MAX_CPU_COUNT', 'NEW')])";
    for change in [
        "import os; os.environ['NEW'] = 'x'",
        "import os; del os.environ['CLUTCH_WORKER']; os.environ['LOKY_MAX_CPU_COUNT'] = '7'",
        "import os; os.environ.clear()",
        "import os; os.environ = {'NEW': 'x'}",
        "import ctypes; ctypes.CDLL(None).setenv(b'CLUTCH_WORKER', b'9', 1)",
    ] {
        is_restored(&mut worker, change, probe);
    }
    // What OpenMP must find again.
    worker.run(&["exec('import os; os.environ[\"KMP_NOTE\"] = \"1\"')"]).unwrap();
    assert_eq!(worker.text("__import__('os').environ['KMP_NOTE'] + '!'"), "1!");
}

#[test]
fn the_search_path_is_restored() {
    let mut worker = Zygote::start("").worker();
    let probe = "repr(__import__('sys').path)[-200:] + str(len(__import__('sys').path))";
    for change in [
        "import sys; sys.path.insert(0, '/new')",
        "import sys; sys.path.clear()",
        "import sys; sys.path = ['/new']",
    ] {
        is_restored(&mut worker, change, probe);
    }
}

#[test]
fn signals_are_restored_for_python_and_for_c() {
    let mut worker = Zygote::start("").worker();
    let probe = "repr([str(__import__('signal').getsignal(n))[:40] for n in (2, 15)] + \
                 [line[7:] for line in open('/proc/self/status') if line[:6] in \
                 ('SigBlk', 'SigIgn', 'SigCgt')] + [__import__('signal').getitimer(0)[1]])";
    for change in [
        "import signal; signal.signal(signal.SIGINT, print)",
        "import signal; signal.signal(signal.SIGTERM, print)",
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        "import signal; signal.signal(signal.SIGCHLD, print)",
        "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {1, 2, 15})",
        "import signal; signal.setitimer(signal.ITIMER_REAL, 60, 3)",
        "import faulthandler; faulthandler.unregister(10)",
    ] {
        is_restored(&mut worker, change, probe);
    }
    // One that comes while it is held back.
    let held = "exec('import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, {14, 15}); \
                [os.kill(os.getpid(), n) for n in (14, 15)]')";
    worker.run(&[held]).unwrap();
    assert_eq!(worker.text("'alive'"), "alive");
}

#[test]
fn an_alarm_of_one_batch_does_not_ring_in_the_next() {
    let mut worker = Zygote::start("").worker();
    let change = "exec('import signal; signal.signal(14, lambda *_: 1 / 0); \
                  signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)')";
    for _ in 0..5 {
        // It may ring in time.
        worker.run(&[change]).ok();
        assert_eq!(worker.text("__import__('time').sleep(0.05) or 'quiet'"), "quiet");
    }
}

#[test]
fn stacks_are_printed_whatever_the_batch_before_did_to_signals() {
    for change in [
        "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "import faulthandler; faulthandler.unregister(10); faulthandler.disable()",
    ] {
        let mut worker = Zygote::start("").worker();
        worker.run(&[&after(change, "1")]).unwrap();
        worker.start(&["print('begun') or __import__('time').sleep(60)"]);
        worker.read_until(Stream::Stdout, "begun");
        worker.kill(Signal::USR1);
        worker.read_until(Stream::Stderr, "most recent call first");
        worker.kill(Signal::SEGV);
        assert!(worker.end().3.contains("Fatal Python error: Segmentation fault"), "{change}");
    }
}

#[test]
fn output_is_heard_whatever_the_batch_before_did_to_it() {
    let mut worker = Zygote::start("").worker();
    let changes = [
        "import io, sys; sys.stdout = io.StringIO()",
        "import io, sys; sys.stdout.close(); sys.stdout = io.StringIO()",
        "import os; os.close(1)",
        "import os; os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
        "import sys; sys.stdout.detach()",
        "import os, sys; sys.stdin = None; sys.stdout = None; os.closerange(0, 3)",
    ];
    for (number, change) in changes.iter().enumerate() {
        worker.run(&[&format!("exec({change:?})")]).unwrap();
        worker
            .run(&[&format!(
                "print({number}) or print('error', {number}, file=__import__('sys').stderr)"
            )])
            .unwrap();
    }
    let (report, _) = worker.run(&["1"]).unwrap();
    assert!(report.leftovers.changed.is_empty(), "{:?}", report.leftovers);
    worker.line.shutdown(std::net::Shutdown::Both).unwrap();
    let (_, _, stdout, stderr) = worker.end();
    assert_eq!(stdout, "0\n1\n2\n3\n4\n5\n");
    let errors = ["error 0", "error 1", "error 2", "error 3", "error 4", "error 5"];
    assert_eq!(stderr.lines().collect::<Vec<_>>(), errors);
}

#[test]
fn soft_limits_and_the_nice_value_are_restored_or_reported() {
    let mut worker = Zygote::start("").worker();
    let probe = "repr([__import__('resource').getrlimit(n) for n in (3, 7)])";
    let change = "import resource as r; [r.setrlimit(n, (90, r.getrlimit(n)[1])) for n in (7, 3)]";
    is_restored(&mut worker, change, probe);

    // Both take a privilege that not everybody has who runs tests.
    for (change, probe, name) in [
        ("import os; os.nice(3)", "str(__import__('os').nice(0))", "nice value"),
        (
            "import resource; resource.setrlimit(1, (1 << 40, 1 << 40))",
            "repr(__import__('resource').getrlimit(1))",
            "resource limits",
        ),
    ] {
        let before = worker.text(probe);
        let (report, _) = worker.run(&[&after(change, "1")]).unwrap();
        let restored = worker.text(probe) == before;
        let told = report.leftovers.changed;
        assert_eq!(told, if restored { Vec::new() } else { vec![String::from(name)] });
    }
}

#[test]
fn an_initializer_may_change_everything_for_good() {
    let mut worker = Zygote::start("").bare_worker();
    let program = "import os, signal, sys\\u000aos.chdir('/usr')\\u000a\
                   os.environ['NEW'] = 'x'\\u000asignal.signal(15, signal.SIG_IGN)\\u000a\
                   sys.path.insert(0, '/new')";
    let profile = format!("(Vinitializer\ncbuiltins\nexec\nVinitargs\n(V{program}\ntd.");
    worker.set_up(Vec::new(), 1, profile.as_bytes());
    let probe = "repr((__import__('os').getcwd(), __import__('os').environ['NEW'], \
                 int(__import__('signal').getsignal(15)), __import__('sys').path[0]))";
    worker.run(&["exec('import os; os.chdir(\"/\"); os.environ.clear()')"]).unwrap();
    assert_eq!(worker.text(probe), "('/usr', 'x', 1, '/new')");
}

#[test]
fn what_the_modules_of_tasks_change_when_they_are_imported_stays() {
    let directory = tempfile::tempdir().unwrap();
    let module = "import os, sys\nos.environ['NEW'] = 'x'\nsys.setrecursionlimit(3000)\n\
                  sys.path.append('/new')\ndef task(): pass\n";
    std::fs::write(directory.path().join("clutch_test_settings.py"), module).unwrap();
    let path = directory.path().to_str().unwrap();
    let mut worker = Zygote::start("").bare_worker();
    worker.set_up(Vec::new(), 1, format!("(Vsys_path\n(V{path}\nld.").as_bytes());
    let run = RunBatch { batch: 1, tasks: 1, nesting_level: 1, ..RunBatch::default() };
    worker.send(&ToWorker::Run(run), b"((cclutch_test_settings\ntask\n(t(dtl.");
    assert!(matches!(worker.receive().message, FromWorker::Done(..)));
    let probe = "repr((__import__('os').environ['NEW'], __import__('sys').getrecursionlimit(), \
                 __import__('sys').path[-1]))";
    for _ in 0..2 {
        assert_eq!(worker.text(probe), "('x', 3000, '/new')");
        worker.run(&["exec('import os, sys; os.environ.clear(); sys.path.clear()')"]).unwrap();
    }
}

#[test]
fn temporary_files_are_where_the_set_up_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let mut worker = Zygote::start("tempfile").worker();
    // It may have been asked for before, in the zygote.
    assert_ne!(worker.text("__import__('tempfile').gettempdir()"), path);
    worker.set_up(vec![("TMPDIR".into(), path.into())], 1, b"");
    assert_eq!(worker.text("__import__('tempfile').gettempdir()"), path);
}
