//! Signals to exactly one process, and the end of all that one started.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::files::Proc;
use super::stat::{Process, Stat};
use super::tree::Tree;

/// How long processes that multiply are chased.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a killed process may take to be dead.
const END: Duration = Duration::from_secs(1);

/// Kills everything below a process, and leaves the process itself and the
/// resource trackers, which end by themselves. Gives how many there were.
///
/// What forks faster than it is killed would never end, so all are stopped
/// first: what is stopped does not fork.
pub(crate) fn kill_below(proc: &Proc, root: Process) -> usize {
    let (started, mut killed) = (Instant::now(), 0);
    let listed = proc.trees(&[root]).pop().unwrap_or_default();
    let mut found = unwanted(proc, listed);
    while !found.is_empty() && started.elapsed() < PATIENCE {
        stop_all(proc, root, started);
        found = unwanted(proc, proc.whole_tree(root));
        let dead = found.iter().filter(|stat| signal(proc, stat.process, Signal::KILL)).count();
        if dead == 0 {
            // They went away by themselves, or they are not ours to kill.
            break;
        }
        killed += dead;
        wait_for(proc, &found);
        found = unwanted(proc, proc.whole_tree(root));
    }
    killed
}

/// Sends a signal to exactly this process; `false`: it is gone, or not ours.
pub(crate) fn signal(proc: &Proc, process: Process, signal: Signal) -> bool {
    let Some(number) = process.pid.raw() else { return false };
    let same = || proc.stat(process.pid).is_some_and(|stat| stat.process == process);
    match pidfd_open(number, PidfdFlags::empty()) {
        // Opened first and looked at then: what is open cannot be replaced.
        Ok(opened) => same() && pidfd_send_signal(opened, signal).is_ok(),
        Err(Errno::SRCH) => false,
        // All descriptors are in use: the number changes hands only once all
        // others did.
        Err(_) => same() && kill_process(number, signal).is_ok(),
    }
}

/// What lives below the root of a tree and has no right to.
fn unwanted(proc: &Proc, tree: Tree) -> Vec<Stat> {
    let unwanted = |stat: &Stat| !stat.zombie && !proc.is_resource_tracker(stat.process.pid);
    tree.into_iter().skip(1).filter(unwanted).collect()
}

/// Tells each of them to stop, and those too that they started before they did.
/// Whether they do is not waited for: one that waits in the kernel for a child
/// that is stopped now does not, and forks nothing either.
fn stop_all(proc: &Proc, root: Process, started: Instant) {
    let mut told = HashSet::new();
    while started.elapsed() < PATIENCE {
        let running =
            unwanted(proc, proc.whole_tree(root)).into_iter().filter(|stat| !stat.stopped);
        let running = running.map(|stat| stat.process);
        let new: Vec<_> = running.filter(|process| told.insert(*process)).collect();
        if new.is_empty() {
            return;
        }
        for process in new {
            signal(proc, process, Signal::STOP);
        }
    }
}

/// Returns when these are dead; one that is in the kernel takes a moment.
fn wait_for(proc: &Proc, killed: &[Stat]) {
    let started = Instant::now();
    let lives = |stat: &Stat| {
        let now = proc.stat(stat.process.pid);
        now.is_some_and(|now| now.process == stat.process && !now.zombie)
    };
    while killed.iter().any(lives) && started.elapsed() < END {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Pid;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    /// A shell that has said that it is ready.
    fn shell(script: &str) -> (Child, Process) {
        spoken(Command::new("sh").args(["-c", script]))
    }

    fn spoken(command: &mut Command) -> (Child, Process) {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Proc::default().stat(Pid(child.id())).unwrap().process;
        (child, process)
    }

    fn end(mut child: Child) {
        let proc = Proc::default();
        kill_below(&proc, proc.stat(Pid(child.id())).unwrap().process);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_multiplies_is_ended_and_its_root_lives() {
        // Each of them starts its successor all the time.
        let bomb = "again() { while :; do (again2) & sleep 0.01; done; }; \
            again2() { while :; do sleep 0.02 & wait; done; }; \
            (again) & (again) & echo ready; wait; echo over; read x";
        let (child, root) = shell(bomb);
        let proc = Proc::default();
        assert!(kill_below(&proc, root) >= 2);
        assert_eq!(unwanted(&proc, proc.whole_tree(root)), []);
        assert_eq!(proc.stat(root.pid).unwrap().process, root);
        end(child);
    }

    #[test]
    fn what_ignores_signals_or_is_stopped_dies_too() {
        let script = "(trap '' TERM INT HUP; while :; do sleep 1; done) & \
            sleep 1000 & kill -STOP $!; echo ready; wait; read x";
        let (child, root) = shell(script);
        let proc = Proc::default();
        assert!(kill_below(&proc, root) >= 2);
        assert_eq!(unwanted(&proc, proc.whole_tree(root)), []);
        end(child);
    }

    #[test]
    fn resource_trackers_are_spared_and_end_by_themselves() {
        let script = "import os, subprocess\n\
            from joblib.externals.loky.backend import resource_tracker as of_loky\n\
            from multiprocessing import resource_tracker\n\
            resource_tracker.ensure_running(); of_loky.ensure_running()\n\
            subprocess.Popen(['sleep', '1000'])\nprint('ready', flush=True); input()";
        let python = std::env::var_os("CLUTCH_TEST_PYTHON");
        let python = python.expect("set CLUTCH_TEST_PYTHON to a python with joblib");
        let (child, root) = spoken(Command::new(python).args(["-c", script]));
        let proc = Proc::default();
        assert_eq!(kill_below(&proc, root), 1);
        let below = proc.whole_tree(root).into_iter().skip(1);
        let trackers: Vec<_> = below.filter(|stat| !stat.zombie).collect();
        assert_eq!(trackers.len(), 2);
        assert!(trackers.iter().all(|stat| proc.is_resource_tracker(stat.process.pid)));
        end(child);
        let lives = |stat: &Stat| proc.stat(stat.process.pid).is_some_and(|now| !now.zombie);
        let started = Instant::now();
        while trackers.iter().any(lives) && started.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert!(!trackers.iter().any(lives));
    }

    #[test]
    fn nobody_is_mistaken_for_another() {
        let (child, root) = shell("echo ready; read x");
        let other = Process { started_at: root.started_at + 1, ..root };
        assert!(!signal(&Proc::default(), other, Signal::KILL));
        assert_eq!(kill_below(&Proc::default(), other), 0);
        assert!(Proc::default().stat(root.pid).is_some_and(|stat| !stat.zombie));
        assert!(signal(&Proc::default(), root, Signal::CONT));
        end(child);
    }
}
