//! How workers and zygotes end, and who ends with them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clutch_worker_link::{FromZygote, ToWorker};
use rustix::process::{Pid, Signal};

use crate::harness::{Stream, Zygote};

#[test]
fn retiring_runs_exit_handlers() {
    let mut worker = Zygote::start("").worker();
    worker.run(&["__import__('atexit').register(print, 'good', 'bye') and None"]).unwrap();
    worker.send(&ToWorker::Retire, &[]);
    let (code, _, stdout, stderr) = worker.end();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "good bye\n", ""));
}

#[test]
fn an_exit_behind_pythons_back_is_seen_by_the_agent() {
    let mut worker = Zygote::start("").worker();
    worker.start(&["__import__('os')._exit(7)"]);
    assert_eq!(worker.end().0, Some(7));
}

#[test]
fn a_crash_leaves_a_stack() {
    let zygote = Zygote::start("");
    let mut worker = zygote.worker();
    worker.start(&["__import__('ctypes').string_at(0)"]);
    let (_, signal, _, stderr) = worker.end();
    assert_eq!(signal, Some(Signal::SEGV.as_raw()));
    assert!(stderr.contains("Segmentation fault") && stderr.contains("string_at"), "{stderr}");
    assert_eq!(zygote.worker().text("'neighbour'"), "neighbour");
}

#[test]
fn a_stack_is_printed_on_request() {
    let mut worker = Zygote::start("").worker();
    worker.start(&["print('begun') or __import__('time').sleep(60)"]);
    assert_eq!(worker.read_until(Stream::Stdout, "begun"), "begun\n");
    worker.kill(Signal::USR1);
    let stderr = worker.read_until(Stream::Stderr, "most recent call first");
    worker.kill(Signal::KILL);
    let (_, signal, stdout, _) = worker.end();
    assert_eq!((signal, stdout.as_str()), (Some(Signal::KILL.as_raw()), ""));
    assert!(stderr.contains("most recent call first"), "{stderr}");
}

#[test]
fn workers_outlive_their_zygote() {
    let mut zygote = Zygote::start("");
    let mut worker = zygote.worker();
    zygote.process.kill().unwrap();
    zygote.process.wait().unwrap();
    let parent = std::process::id().to_string();
    assert_eq!(worker.text("str(__import__('os').getppid())"), parent);
}

#[test]
fn a_zygote_ends_when_its_control_line_closes() {
    let mut zygote = Zygote::start("");
    zygote.control.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(zygote.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_zygote_with_threads_refuses_to_fork() {
    let directory = tempfile::tempdir().unwrap();
    let module = "import threading, time\n\
                  threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n";
    std::fs::write(directory.path().join("clutch_test_threads.py"), module).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "endings::agent_of_a_threaded_zygote", "--ignored"])
        .env("PYTHONPATH", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "runs as a process of its own, with a search path of its own"]
fn agent_of_a_threaded_zygote() {
    let zygote = Zygote::start("clutch_test_threads,no_such_module");
    assert_eq!(zygote.hello.warm_modules, ["clutch_test_threads"]);
    assert_eq!(zygote.hello.failed_modules[0].0, "no_such_module");
    let line = zygote.order(5);
    let FromZygote::Refused { worker: 5, reason, unsafe_to_fork: true, .. } = zygote.answer()
    else {
        panic!("forked with threads");
    };
    assert!(reason.contains("2 threads"), "{reason}");
    drop(line);
}

#[test]
fn nothing_outlives_the_agent() {
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "endings::agent_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let pids: Vec<Pid> = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("pid ")?.parse().ok().and_then(Pid::from_raw))
        .take(3)
        .collect();
    assert_eq!(pids.len(), 3);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let begin = Instant::now();
    while pids.iter().any(|pid| is_alive(*pid)) {
        assert!(begin.elapsed() < Duration::from_secs(5), "somebody outlived the agent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "runs as a process of its own, which is killed"]
#[expect(clippy::print_stdout, reason = "tells its process ids")]
fn agent_to_be_killed() {
    let zygote = Zygote::start("");
    let mut workers = [zygote.worker(), zygote.worker()];
    // One that is idle, and one that holds the GIL.
    workers[1].start(&["pow(3, 10 ** 9) and None"]);
    println!();
    println!("pid {}", zygote.process.id());
    for worker in &workers {
        println!("pid {}", worker.pid.as_raw_nonzero());
    }
    std::thread::sleep(Duration::from_mins(1));
}

fn is_alive(pid: Pid) -> bool {
    // A killed process that nobody has waited for yet is a zombie.
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    status.is_ok_and(|status| !status.contains(") Z "))
}
