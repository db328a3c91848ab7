//! What a worker reports that its tasks left behind.

use std::os::unix::fs::FileExt;

use clutch_worker_link::Leftovers;

use crate::harness::{Worker, Zygote};

/// What a batch of one statement left behind.
fn left_by(worker: &mut Worker, statement: &str) -> Leftovers {
    worker.run(&[&format!("exec({statement:?})")]).unwrap().0.leftovers
}

#[test]
fn children_are_reported_until_somebody_has_waited_for_them() {
    let mut worker = Zygote::start("").worker();
    let start = "import builtins, subprocess; builtins.p = subprocess.Popen(['sleep', '60'])";
    assert!(left_by(&mut worker, start).children);
    assert!(left_by(&mut worker, "1").children);
    assert!(!left_by(&mut worker, "p.kill(); p.wait()").children);
    let fork = "import os; os.fork() or os._exit(0)";
    assert!(left_by(&mut worker, fork).children);
    assert_eq!(left_by(&mut worker, "import os; os.wait()"), Leftovers::default());
}

#[test]
fn children_of_children_are_their_workers_when_they_are_orphans() {
    let mut worker = Zygote::start("").worker();
    let start = "import builtins, subprocess; builtins.orphan = int(subprocess.check_output(\
                 'setsid sleep 60 >/dev/null & echo $!', shell=True))";
    assert!(left_by(&mut worker, start).children);
    let end = "import os; os.kill(orphan, 9); os.waitpid(orphan, 0)";
    assert!(!left_by(&mut worker, end).children);
}

#[test]
fn a_child_that_has_ended_is_no_leftover_when_python_can_wait_for_it() {
    let mut worker = Zygote::start("").worker();
    let forgotten = "import os, subprocess\ndef run():\n p = subprocess.Popen(['true'])\n \
                     os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)\nrun()";
    assert!(!left_by(&mut worker, forgotten).children);
    let process = "import builtins, multiprocessing, os\n\
                   builtins.q = multiprocessing.get_context('fork').Process(target=os._exit, args=(7,))\n\
                   q.start()\nos.waitid(os.P_PID, q.pid, os.WEXITED | os.WNOWAIT)";
    assert!(!left_by(&mut worker, process).children);
    assert_eq!(worker.text("str(q.exitcode)"), "7");
}

#[test]
fn what_the_initializer_left_is_no_leftover() {
    let mut worker = Zygote::start("").bare_worker();
    let program = "import builtins, subprocess, threading\\u000a\
                   builtins.p = subprocess.Popen(['sleep', '60'])\\u000a\
                   builtins.e = threading.Event()\\u000athreading.Thread(target=e.wait).start()";
    let profile = format!("(Vinitializer\ncbuiltins\nexec\nVinitargs\n(V{program}\ntd.");
    worker.set_up(Vec::new(), 1, profile.as_bytes());
    assert_eq!(left_by(&mut worker, "1"), Leftovers::default());
    let another = "import builtins, subprocess; builtins.q = subprocess.Popen(['sleep', '60'])";
    assert!(left_by(&mut worker, another).children);
    assert!(!left_by(&mut worker, "q.kill(); q.wait()").children);
    assert!(!left_by(&mut worker, "p.kill(); p.wait(); e.set()").children);
}

#[test]
fn threads_are_reported_unless_they_are_daemons() {
    let mut worker = Zygote::start("").worker();
    let start = "import builtins, threading\nbuiltins.e = threading.Event()\n\
                 builtins.t = threading.Thread(target=e.wait, daemon=DAEMON)\nt.start()";
    for (daemon, threads) in [("True", 0), ("False", 1)] {
        let left = left_by(&mut worker, &start.replace("DAEMON", daemon));
        assert_eq!(left, Leftovers { threads, ..Leftovers::default() });
        assert_eq!(left_by(&mut worker, "e.set(); t.join()"), Leftovers::default());
    }
}

#[test]
fn open_files_are_reported_when_they_are_many() {
    let zygote = Zygote::start("numpy");
    let open = "import builtins; builtins.f = [open('/dev/null') for _ in range(COUNT)]";
    for (count, files) in [(60, 0), (100, 100)] {
        let mut worker = zygote.worker();
        // Blobs are not the task's.
        for blob in 0..100 {
            worker.map(blob, b"content");
        }
        let left = left_by(&mut worker, &open.replace("COUNT", &format!("200 + {count}")));
        assert_eq!(left.files, files, "{count}");
    }
}

#[test]
fn a_memory_error_is_reported() {
    let mut worker = Zygote::start("").worker();
    for (task, out_of_memory) in [("bytearray(1 << 60)", true), ("1 / 0", false)] {
        let (report, ..) = *worker.run(&[task]).unwrap_err();
        assert_eq!(report.leftovers, Leftovers { out_of_memory, ..Leftovers::default() });
    }
}

#[test]
fn cpu_time_of_children_counts_from_the_next_batch_on() {
    let mut worker = Zygote::start("").worker();
    let cpu_at_start = |worker: &Worker| {
        let page = std::fs::File::from(worker.page.try_clone().unwrap());
        let mut bytes = [0; 8];
        // Behind the task and its begin.
        page.read_exact_at(&mut bytes, 16).unwrap();
        u64::from_le_bytes(bytes)
    };
    let burn = "import os\nif not os.fork():\n while sum(os.times()[:2]) < 0.2: pass\n os._exit(0)\n\
                os.wait()";
    left_by(&mut worker, burn);
    let before = cpu_at_start(&worker);
    left_by(&mut worker, "1");
    let after = cpu_at_start(&worker);
    assert!(before > 0 && after - before >= 150_000_000, "{before} {after}");
}
