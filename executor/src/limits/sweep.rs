//! Ends everything that a worker started.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::proc_files::{Proc, Process, Stat};

/// How long processes that multiply are chased.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a killed process may take to be dead.
const END: Duration = Duration::from_secs(1);

/// Kills everything below a process, and leaves the process itself and the
/// resource trackers, which end by themselves. Gives how many there were.
///
/// What forks faster than it is killed would never end, so all are stopped
/// first: what is stopped does not fork.
pub(super) fn kill_below(proc: &Proc, root: Process) -> usize {
    let (started, mut killed) = (Instant::now(), 0);
    loop {
        let found = below(proc, root);
        if found.is_empty() || started.elapsed() > PATIENCE {
            return killed;
        }
        stop_all(proc, root, started);
        let found = below(proc, root);
        let dead = found.iter().filter(|stat| signal(proc, stat.process, Signal::KILL)).count();
        killed += dead;
        if dead == 0 {
            // They go away by themselves, or they cannot be killed by us.
            return killed;
        }
        wait_for(proc, &found);
    }
}

/// Sends a signal to exactly this process; `false`: it is gone, or not ours.
pub(crate) fn signal(proc: &Proc, process: Process, signal: Signal) -> bool {
    let pid = i32::try_from(process.pid.0).ok().and_then(rustix::process::Pid::from_raw);
    let opened = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    // Opened first and looked at then: what is open cannot be replaced.
    let same = |proc: &Proc| proc.stat(process.pid).is_some_and(|stat| stat.process == process);
    opened.is_some_and(|opened| same(proc) && pidfd_send_signal(opened, signal).is_ok())
}

/// What lives below a process and has no right to.
fn below(proc: &Proc, root: Process) -> Vec<Stat> {
    let tree = proc.trees(&[root]).pop().unwrap_or_default();
    let unwanted = |stat: &Stat| !stat.zombie && !proc.is_resource_tracker(stat.process.pid);
    tree.into_iter().skip(1).filter(unwanted).collect()
}

/// Tells each of them to stop, and those too that they started before they did.
/// Whether they do is not waited for: one that waits in the kernel for a child
/// that is stopped now does not, and forks nothing either.
fn stop_all(proc: &Proc, root: Process, started: Instant) {
    let mut told = HashSet::new();
    while started.elapsed() < PATIENCE {
        let running = below(proc, root).into_iter().filter(|stat| !stat.stopped);
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
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
        assert_eq!(below(&proc, root), []);
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
        assert_eq!(below(&proc, root), []);
        end(child);
    }

    #[test]
    fn resource_trackers_are_spared() {
        // The shell's own program has the argument of a tracker.
        let script = "sh -c 'read x; :' 'from multiprocessing.resource_tracker import main;\
            main(3)' <&0 & sleep 1000 & echo ready; wait; read x";
        let (child, root) = shell(script);
        let proc = Proc::default();
        let tracks = |stat: &Stat| proc.is_resource_tracker(stat.process.pid);
        kill_below(&proc, root);
        let left = proc.children(root.pid);
        let left: Vec<_> = left.into_iter().filter(|stat| !stat.zombie).collect();
        assert!(left.len() <= 1 && left.iter().all(tracks), "{left:?}");
        end(child);
    }

    #[test]
    fn nobody_is_mistaken_for_another() {
        let (child, root) = shell("echo ready; read x");
        let other = Process { started_at: root.started_at + 1, ..root };
        assert!(!signal(&Proc::default(), other, Signal::KILL));
        assert_eq!(kill_below(&Proc::default(), other), 0);
        assert!(Proc::default().stat(root.pid).is_some_and(|stat| !stat.zombie));
        end(child);
    }
}
