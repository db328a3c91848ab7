//! Real processes over real limits, without control groups.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::prepare::Encloser;
use super::{Bounded, Enclosure, Enforcer, LimitOptions, Limits, Passed, Resource};
use crate::clock::Monotonic;
use crate::identifiers::{Pid, WorkerId};
use crate::pool::ProgressPage;
use crate::processes::Proc;

/// More than anything here takes on a machine that is busy.
const FOREVER: Duration = Duration::from_secs(60);

fn options(scratch: &Path, ceiling: Option<u64>) -> LimitOptions {
    let none = Bounded { default: None, most: None };
    LimitOptions {
        memory_bytes: none,
        cpus: Bounded::default(),
        processes: none,
        open_files: none,
        scratch_bytes: none,
        task_timeout: Bounded::default(),
        task_cpu: Bounded::default(),
        scratch_directory: scratch.to_owned(),
        owner: None,
        memory_ceiling_bytes: ceiling,
        cpu_weight: None,
        cgroups: true,
    }
}

/// Without control groups.
fn encloser(scratch: &Path, ceiling: Option<u64>) -> Encloser {
    Encloser::new(&options(scratch, ceiling), true, None)
}

/// A shell that is enclosed, and the page on which its tasks are noted.
struct Worker {
    child: Child,
    enclosure: Arc<Enclosure>,
    passed: mpsc::Receiver<Passed>,
    page: File,
}

impl Worker {
    /// It does what it is told on its standard input.
    fn start(encloser: &Encloser, limits: Limits) -> Self {
        Self::start_in(|worker, pid, page| encloser.enclose(worker, pid, limits, page, None))
    }

    fn start_in(
        enclose: impl FnOnce(
            WorkerId,
            Pid,
            Arc<ProgressPage>,
        ) -> std::io::Result<(Arc<Enclosure>, mpsc::Receiver<Passed>)>,
    ) -> Self {
        let mut shell = Command::new("sh");
        let child = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().unwrap();
        let (progress, page) = ProgressPage::new().unwrap();
        let pid = Pid(child.id());
        let worker = WorkerId(u64::from(pid.0));
        let (enclosure, passed) = enclose(worker, pid, Arc::new(progress)).unwrap();
        Self { child, enclosure, passed, page: page.into() }
    }

    fn run(&mut self, script: &str) {
        use std::io::Write;
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{script}").unwrap();
    }

    /// Notes a task as a worker does: its index and one, and when it began.
    fn task(&self, index: u64) {
        self.page.write_all_at(&Monotonic::now().nanoseconds().to_ne_bytes(), 8).unwrap();
        self.page.write_all_at(&(index + 1).to_ne_bytes(), 0).unwrap();
    }

    fn passed(&mut self) -> Option<Passed> {
        let started = Instant::now();
        while started.elapsed() < FOREVER {
            match self.passed.try_recv() {
                Ok(passed) => return Some(passed),
                Err(_) => std::thread::yield_now(),
            }
        }
        None
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.enclosure.kill_children();
        self.child.kill().ok();
        self.child.wait().ok();
        self.enclosure.dissolve();
    }
}

#[test]
fn memory_of_a_grandchild_counts_and_the_peak_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), None);
    let limits = Limits { memory_bytes: Some(256 << 20), ..Limits::default() };
    let mut neighbour = Worker::start(&encloser, limits);
    neighbour.enclosure.busy(None);
    let mut worker = Worker::start(&encloser, limits);
    worker.enclosure.busy(None);
    // Looks for the end of a line without end.
    worker.run("(tail /dev/zero; :) & wait");
    let passed = worker.passed().unwrap();
    assert_eq!((passed.resource, passed.breach.limit), (Resource::Memory, 256 << 20));
    assert!(passed.breach.peak > 256 << 20);
    assert!(worker.enclosure.kill_children() >= 1);
    let peak = worker.enclosure.counters().peak_memory_bytes;
    assert!(peak >= Some(passed.breach.peak), "{peak:?}");
    assert!(neighbour.passed.try_recv().is_err());
}

#[test]
fn cpu_time_of_the_running_task_counts_with_that_of_its_processes() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), None);
    let mut worker = Worker::start(&encloser, Limits::default());
    worker.task(0);
    worker.enclosure.busy(Some(Duration::from_millis(300)));
    worker.run("while :; do :; done & while :; do :; done & wait");
    let passed = worker.passed().unwrap();
    assert_eq!((passed.resource, passed.breach.limit), (Resource::CpuTime, 300_000_000));
    assert!(passed.breach.peak > 300_000_000, "{passed:?}");
    // Told once; the next batch has a limit of its own.
    worker.task(1);
    worker.enclosure.rest();
    worker.enclosure.busy(Some(Duration::from_millis(100)));
    assert_eq!(worker.passed().unwrap().breach.limit, 100_000_000);
}

#[test]
fn one_process_too_many_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), None);
    let limits = Limits { processes: Some(4), ..Limits::default() };
    let mut worker = Worker::start(&encloser, limits);
    worker.enclosure.busy(None);
    worker.run("for i in 1 2 3 4 5 6; do sleep 1000 & done; wait");
    let passed = worker.passed().unwrap();
    assert_eq!((passed.resource, passed.breach.limit), (Resource::Processes, 4));
    assert!((5..=7).contains(&passed.breach.peak), "{passed:?}");
    assert!(worker.enclosure.kill_children() >= 5);
}

#[test]
fn files_in_the_scratch_directory_count_and_end_with_the_worker() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), None);
    let limits = Limits { scratch_bytes: Some(1 << 20), ..Limits::default() };
    let mut worker = Worker::start(&encloser, limits);
    let [(name, directory)] = worker.enclosure.variables().try_into().unwrap();
    assert_eq!(name, "TMPDIR");
    worker.enclosure.busy(None);
    worker.run(&format!("head -c 2000000 /dev/zero > {directory}/file"));
    let passed = worker.passed().unwrap();
    assert_eq!((passed.resource, passed.breach.limit), (Resource::Scratch, 1 << 20));
    drop(worker);
    let started = Instant::now();
    while Path::new(&directory).exists() && started.elapsed() < FOREVER {
        std::thread::yield_now();
    }
    assert!(!Path::new(&directory).exists());
}

#[test]
fn workers_together_over_their_ceiling_are_short_of_memory_until_one_ends() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), Some(256 << 20));
    let mut shortage = encloser.shortage();
    let mut workers = [(); 2].map(|()| Worker::start(&encloser, Limits::default()));
    for worker in &mut workers {
        worker.enclosure.busy(None);
        // Each is within the ceiling by itself.
        worker.run("head -c 150M /dev/zero | tail -c 150M | sleep 1000");
    }
    let mut wait = |short: bool| {
        let started = Instant::now();
        while shortage.borrow_and_update().is_some() != short && started.elapsed() < FOREVER {
            std::thread::yield_now();
        }
        *shortage.borrow_and_update()
    };
    let told = wait(true).unwrap();
    assert_eq!(told.limit, 256 << 20);
    assert!(told.peak > (256 << 20) / 100 * 95, "{told:?}");
    assert!(workers[0].enclosure.kill_children() >= 1);
    assert_eq!(wait(false), None);
}

#[test]
fn who_waits_for_ever_when_allocations_fail_is_over_the_limit() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), None);
    let soft_memory = true;
    let limits = Limits { memory_bytes: Some(512 << 20), soft_memory, ..Limits::default() };
    let mut worker = Worker::start(&encloser, limits);
    let script = "import resource, threading, time\n\
        while resource.getrlimit(resource.RLIMIT_DATA)[0] < 0: time.sleep(0.01)\n\
        held, lock = [], threading.Lock()\n\
        try:\n while True: held.append(bytearray(1 << 20))\n\
        except MemoryError: lock.acquire(); lock.acquire()";
    let python = std::env::var("CLUTCH_TEST_PYTHON").expect("set CLUTCH_TEST_PYTHON to a python");
    worker.enclosure.busy(None);
    worker.run(&format!("exec {python} -c '{script}'"));
    let command = format!("/proc/{}/cmdline", worker.child.id());
    while !std::fs::read_to_string(&command).unwrap().contains("MemoryError") {
        std::thread::yield_now();
    }
    worker.enclosure.soften();
    let passed = worker.passed().unwrap();
    assert_eq!((passed.resource, passed.breach.limit), (Resource::Memory, 512 << 20));
    // It was never over the limit itself.
    assert!((256 << 20..512 << 20).contains(&passed.breach.peak), "{passed:?}");
}

#[test]
fn who_rests_is_not_looked_at() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), None);
    let limits = Limits { processes: Some(1), memory_bytes: Some(1), ..Limits::default() };
    let mut resting = Worker::start(&encloser, limits);
    resting.run("sleep 1000 & wait");
    let mut busy = Worker::start(&encloser, Limits { processes: Some(1), ..limits });
    busy.run("sleep 1000 & wait");
    busy.enclosure.busy(None);
    assert!(busy.passed().is_some());
    assert!(resting.passed.try_recv().is_err());
    resting.enclosure.busy(None);
    assert!(resting.passed().is_some());
}

/// One agent's groups have the name of its process, and its end ends them all.
static AGENT: Mutex<()> = Mutex::new(());

/// With control groups where there are some, else without.
#[test]
fn whatever_holds_limits_here_tells_who_forks_for_ever_and_ends_it() {
    let _alone = AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = tempfile::tempdir().unwrap();
    let enforcer = Enforcer::probe(&options(scratch.path(), None));
    let limits = Limits { processes: Some(8), ..Limits::default() };
    let enclose = |worker, pid, page| enforcer.enclose(worker, pid, limits, page);
    let mut worker = Worker::start_in(enclose);
    worker.task(0);
    worker.enclosure.busy(Some(Duration::from_secs(3600)));
    // A shell would give up.
    let script = "import os, time\n\
        while True:\n try:\n  if os.fork() == 0: time.sleep(1000)\n except OSError: pass";
    let python = std::env::var("CLUTCH_TEST_PYTHON").expect("set CLUTCH_TEST_PYTHON to a python");
    worker.run(&format!("{python} -c '{script}' & wait"));
    let passed = worker.passed().unwrap();
    assert_eq!((passed.resource, passed.breach.limit), (Resource::Processes, 8));
    assert!(worker.enclosure.kill_children() >= 3);
    let proc = Proc::default();
    let root = proc.stat(Pid(worker.child.id())).unwrap().process;
    let left = &proc.trees(&[root])[0][1..];
    assert!(left.iter().all(|stat| stat.zombie), "{left:?}");
    drop(worker);
    enforcer.close();
}

#[test]
fn whatever_holds_limits_here_lets_resource_trackers_end() {
    let _alone = AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = tempfile::tempdir().unwrap();
    let enforcer = Enforcer::probe(&options(scratch.path(), None));
    let limits = Limits { memory_bytes: Some(1 << 30), ..Limits::default() };
    let enclose = |worker, pid, page| enforcer.enclose(worker, pid, limits, page);
    let mut worker = Worker::start_in(enclose);
    let file = scratch.path().join("ready");
    let script = format!(
        "import subprocess, time; from multiprocessing import resource_tracker as tracker\n\
        tracker.ensure_running(); subprocess.Popen([\"sleep\", \"1000\"])\n\
        open(\"{}\", \"w\"); time.sleep(1000)",
        file.display()
    );
    let python = std::env::var("CLUTCH_TEST_PYTHON").expect("set CLUTCH_TEST_PYTHON to a python");
    worker.run(&format!("exec {python} -c '{script}'"));
    while !file.exists() {
        std::thread::yield_now();
    }
    let (proc, pid) = (Proc::default(), Pid(worker.child.id()));
    assert_eq!(worker.enclosure.kill_children(), 1);
    let tree = proc.trees(&[proc.stat(pid).unwrap().process]).remove(0);
    let tracker = tree.iter().find(|stat| proc.is_resource_tracker(stat.process.pid)).unwrap();
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    // One that is about to end has lost the line by which it is known.
    assert!(worker.enclosure.dissolve() <= 1);
    let lives = || proc.stat(tracker.process.pid).is_some_and(|now| !now.zombie);
    let started = Instant::now();
    while lives() && started.elapsed() < FOREVER {
        std::thread::yield_now();
    }
    assert!(!lives());
    drop(worker);
    enforcer.close();
}

#[test]
fn a_dead_worker_is_enclosed_and_nobody_is_killed_for_it() {
    let scratch = tempfile::tempdir().unwrap();
    let encloser = encloser(scratch.path(), None);
    let (progress, _page) = ProgressPage::new().unwrap();
    let dead = Pid(u32::MAX >> 1);
    let enclose = |limits| encloser.enclose(WorkerId(1), dead, limits, Arc::new(progress), None);
    let (enclosure, _passed) = enclose(Limits::default()).unwrap();
    enclosure.busy(Some(Duration::from_nanos(1)));
    assert_eq!((enclosure.kill_children(), enclosure.dissolve()), (0, 0));
    assert_eq!(enclosure.counters(), super::Counters::default());
    assert!(Proc::default().stat(dead).is_none());
}
