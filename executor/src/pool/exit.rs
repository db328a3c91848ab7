//! What the death of a worker means: our own intent first, then the evidence.

use std::time::Duration;

use super::reaper::Exit;
use crate::failure::{Failure, Kind};
use crate::identifiers::Pid;
use crate::scheduler::StopReason;

/// What is known about a worker that died with a batch.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) pid: Pid,
    pub(super) exit: Exit,
    /// Why the agent killed it, if it did.
    pub(super) intent: Option<Intent>,
    /// The task that ran, by the progress page.
    pub(super) task_index: Option<u32>,
    /// Number of tasks in the batch.
    pub(super) tasks: u32,
    pub(super) task_timeout: Option<Duration>,
    pub(super) stderr_tail: String,
}

/// Why the agent killed a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// The scheduler wanted it.
    Stop(StopReason),
    /// The worker lives but its line is closed or broken.
    LinkLost,
    /// It did not leave when asked.
    Overstayed,
}

/// Names what ended the batch.
pub(super) fn explain(death: Death) -> Failure {
    let Death { pid, exit, intent, task_index, tasks, task_timeout, stderr_tail } = death;
    let doing = match task_index {
        Some(index) => format!("while it ran task {index} of {tasks}"),
        None => "between tasks".to_owned(),
    };
    let (kind, message) = match intent {
        Some(Intent::Stop(StopReason::Cancelled | StopReason::SessionClosed)) => {
            (Kind::Cancelled, format!("the call was closed; worker {pid} was killed {doing}"))
        }
        Some(Intent::Stop(StopReason::TimeLimit)) => {
            let limit = task_timeout.unwrap_or_default().as_secs_f64();
            let task = task_index.map_or_else(|| "a task".to_owned(), |i| format!("task {i}"));
            (Kind::TimeLimit, format!("{task} ran longer than its limit of {limit} s"))
        }
        Some(Intent::Stop(StopReason::AgentEnding)) => {
            (Kind::AgentDraining, format!("the agent ended; worker {pid} was killed {doing}"))
        }
        Some(Intent::Stop(StopReason::Pressure)) => {
            (Kind::MemoryPressure, format!("memory ran short; worker {pid} was killed {doing}"))
        }
        Some(Intent::LinkLost) => (
            Kind::WorkerCrashed,
            format!("worker {pid} closed or damaged its line to the agent {doing}"),
        ),
        Some(Intent::Overstayed) | None => {
            (Kind::WorkerCrashed, format!("worker {pid} {} {doing}", ended(exit)))
        }
    };
    let (signal, exit_code) = match exit {
        Exit::Signal(signal) => (Some(signal), None),
        Exit::Code(code) => (None, Some(code)),
    };
    Failure { task_index, signal, exit_code, stderr_tail, ..Failure::new(kind, message) }
}

/// The end of a process in words, for example `was killed by SIGSEGV (11)`.
pub(super) fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal(signal) => match signal_name(signal) {
            Some(name) => format!("was killed by {name} ({signal})"),
            None => format!("was killed by signal {signal}"),
        },
    }
}

const fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGALRM => "SIGALRM",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(exit: Exit, intent: Option<Intent>) -> Death {
        Death {
            pid: Pid(7),
            exit,
            intent,
            task_index: Some(2),
            tasks: 5,
            task_timeout: Some(Duration::from_millis(1500)),
            stderr_tail: "last words".to_owned(),
        }
    }

    #[test]
    fn our_own_intent_is_believed_before_the_signal() {
        let killed = Exit::Signal(libc::SIGKILL);
        let kinds = [
            (Some(Intent::Stop(StopReason::Cancelled)), Kind::Cancelled),
            (Some(Intent::Stop(StopReason::SessionClosed)), Kind::Cancelled),
            (Some(Intent::Stop(StopReason::TimeLimit)), Kind::TimeLimit),
            (Some(Intent::Stop(StopReason::AgentEnding)), Kind::AgentDraining),
            (Some(Intent::LinkLost), Kind::WorkerCrashed),
            (None, Kind::WorkerCrashed),
        ];
        for (intent, kind) in kinds {
            assert_eq!(explain(death(killed, intent)).kind, kind, "{intent:?}");
        }
    }

    #[test]
    fn a_crash_names_signal_task_and_last_words() {
        let failure = explain(death(Exit::Signal(libc::SIGSEGV), None));
        assert_eq!(failure.message, "worker 7 was killed by SIGSEGV (11) while it ran task 2 of 5");
        assert_eq!((failure.signal, failure.task_index), (Some(libc::SIGSEGV), Some(2)));
        assert_eq!(failure.stderr_tail, "last words");
    }

    #[test]
    fn an_exit_with_code_0_is_a_crash_too() {
        let failure = explain(death(Exit::Code(0), None));
        assert_eq!((failure.kind, failure.exit_code), (Kind::WorkerCrashed, Some(0)));
    }

    #[test]
    fn a_time_limit_names_the_limit() {
        let intent = Some(Intent::Stop(StopReason::TimeLimit));
        let failure = explain(death(Exit::Signal(libc::SIGKILL), intent));
        assert_eq!(failure.message, "task 2 ran longer than its limit of 1.5 s");
    }
}
