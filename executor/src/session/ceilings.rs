//! What a driver asks for, held against what this agent allows.

use std::sync::Arc;
use std::time::Duration;

use super::command::CallSettings;
use crate::failure::{Failure, Kind};
use crate::limits::{Bounded, LimitOptions, Limits, OverCeiling};

/// Grants limits. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ceilings {
    options: Arc<LimitOptions>,
}

impl Ceilings {
    /// Those that an operator chose.
    pub(crate) fn new(options: LimitOptions) -> Self {
        Self { options: Arc::new(options) }
    }

    /// The limits of workers for which these are asked.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] naming the first that is too much.
    pub(super) fn limits(&self, asked: Limits) -> Result<Limits, Failure> {
        let most = &self.options;
        let memory = Limit { what: "a memory limit", setting: "memory-limit-bytes" };
        let cpus = Limit { what: "a CPU limit", setting: "cpus-per-task" };
        let processes = Limit { what: "a process limit", setting: "process-limit" };
        let files = Limit { what: "a limit on open files", setting: "open-files-limit" };
        let scratch = Limit { what: "a scratch limit", setting: "scratch-limit-bytes" };
        Ok(Limits {
            memory_bytes: memory.grant(most.memory_bytes, asked.memory_bytes, bytes)?,
            cpus: cpus.grant(most.cpus, asked.cpus, |cpus| format!("{cpus} CPUs"))?,
            processes: processes.grant(most.processes, asked.processes, count)?,
            open_files: files.grant(most.open_files, asked.open_files, count)?,
            scratch_bytes: scratch.grant(most.scratch_bytes, asked.scratch_bytes, bytes)?,
            soft_memory: asked.soft_memory,
        })
    }

    /// The settings of a call for which these are asked.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] naming the first limit on time that is too much.
    pub(super) fn times(&self, asked: CallSettings) -> Result<CallSettings, Failure> {
        let most = &self.options;
        let wall = Limit { what: "a time limit", setting: "task-timeout-seconds" };
        let cpu = Limit { what: "a CPU time limit", setting: "task-cpu-seconds" };
        Ok(CallSettings {
            task_timeout: wall.grant(most.task_timeout, asked.task_timeout, seconds)?,
            task_cpu: cpu.grant(most.task_cpu, asked.task_cpu, seconds)?,
            ..asked
        })
    }
}

/// One of them, for people.
struct Limit {
    what: &'static str,
    setting: &'static str,
}

impl Limit {
    fn grant<T: Copy + PartialOrd>(
        self,
        bounded: Bounded<T>,
        asked: Option<T>,
        tell: impl Fn(T) -> String,
    ) -> Result<Option<T>, Failure> {
        let Self { what, setting } = self;
        bounded.grant(asked).map_err(|most| {
            // Only what was asked for can be too much.
            let asked = asked.map(&tell).unwrap_or_default();
            let over = OverCeiling { what, asked, most: tell(most), setting };
            Failure::new(Kind::QuotaExceeded, over.to_string())
        })
    }
}

fn bytes(bytes: u64) -> String {
    format!("{bytes} bytes")
}

fn count(count: u64) -> String {
    count.to_string()
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{RawSettings, Settings};

    fn ceilings() -> Ceilings {
        let raw = RawSettings {
            memory_limit_bytes: Some("100:200".to_owned()),
            cpus_per_task: Some(":1.5".to_owned()),
            task_cpu_seconds: Some("2.5:8".to_owned()),
            ..RawSettings::default()
        };
        Ceilings::new(Settings::resolve(raw).unwrap().limits)
    }

    #[test]
    fn what_is_not_asked_for_is_the_default_and_what_is_asked_for_is_kept() {
        let granted = ceilings().limits(Limits::default()).unwrap();
        let expected = Limits { memory_bytes: Some(100), cpus: Some(1.5), ..Limits::default() };
        assert_eq!(granted, expected);
        let asked = Limits {
            memory_bytes: Some(200),
            cpus: Some(0.5),
            processes: Some(9),
            soft_memory: true,
            ..Limits::default()
        };
        assert_eq!(ceilings().limits(asked), Ok(asked));
    }

    #[test]
    fn what_is_too_much_is_named_with_both_values_and_the_setting() {
        let limits = |limits| ceilings().limits(limits).unwrap_err();
        let failure = limits(Limits { memory_bytes: Some(201), ..Limits::default() });
        assert_eq!(failure.kind, Kind::QuotaExceeded);
        assert_eq!(
            failure.message,
            "a memory limit of 201 bytes is asked for, and this agent allows at most 200 bytes \
             (`memory-limit-bytes`)"
        );
        let failure = limits(Limits { cpus: Some(2.0), ..Limits::default() });
        assert!(failure.message.contains("a CPU limit of 2 CPUs"), "{}", failure.message);
        assert!(failure.message.contains("at most 1.5 CPUs"), "{}", failure.message);
    }
}
