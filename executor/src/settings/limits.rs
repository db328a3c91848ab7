//! Settings of limits: `DEFAULT[:MOST]`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{RawSettings, SettingsError};
use crate::limits::{Bounded, LimitOptions};
use crate::machine;
use crate::worker_user::WorkerUser;

/// All of them, validated.
pub(super) fn limits(
    raw: &RawSettings,
    user: Option<&WorkerUser>,
) -> Result<LimitOptions, SettingsError> {
    let share = raw.machine_share;
    if let Some(share) = share
        && !(share > 0.0 && share < 1.0)
    {
        let reason = "it must be more than 0 and less than 1".to_owned();
        return Err(SettingsError::value("machine-share", share, reason));
    }
    let options = LimitOptions {
        memory_bytes: count("memory-limit-bytes", raw.memory_limit_bytes.as_deref())?,
        cpus: positive("cpus-per-task", raw.cpus_per_task.as_deref())?,
        processes: count("process-limit", raw.process_limit.as_deref())?,
        open_files: count("open-files-limit", raw.open_files_limit.as_deref())?,
        scratch_bytes: count("scratch-limit-bytes", raw.scratch_limit_bytes.as_deref())?,
        task_timeout: time("task-timeout-seconds", raw.task_timeout_seconds.as_deref())?,
        task_cpu: time("task-cpu-seconds", raw.task_cpu_seconds.as_deref())?,
        scratch_directory: scratch_directory(raw)?,
        memory_ceiling_bytes: raw.memory_ceiling_bytes.or_else(|| share.and_then(part_of_memory)),
        // Against one other program that wants all it can get, of weight 1.
        cpu_weight: share.map(|share| share / (1.0 - share)),
        cgroups: raw.cgroups.unwrap_or(true),
        owner: user.map(|user| (user.uid, user.gid)),
    };
    Ok(options)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of the memory, to the nearest page or so"
)]
fn part_of_memory(share: f64) -> Option<u64> {
    machine::memory_bytes().map(|bytes| (bytes as f64 * share) as u64)
}

/// Where scratch directories go. Looked at only when there will be some, by a
/// limit of ours or of a session: the system's own is there.
fn scratch_directory(raw: &RawSettings) -> Result<PathBuf, SettingsError> {
    let written = raw.scratch_directory.clone().unwrap_or_else(std::env::temp_dir);
    let refused = |reason| SettingsError::value("scratch-directory", written.display(), reason);
    let absolute = std::path::absolute(&written).map_err(|error| refused(error.to_string()))?;
    if raw.scratch_directory.is_some() && !absolute.is_dir() {
        return Err(refused("there is no such directory".to_owned()));
    }
    Ok(absolute)
}

fn count(key: &'static str, written: Option<&str>) -> Result<Bounded<u64>, SettingsError> {
    bounded(key, written, "a whole number of at least 1", |count: &u64| *count > 0)
}

fn positive(key: &'static str, written: Option<&str>) -> Result<Bounded<f64>, SettingsError> {
    bounded(key, written, "a number above 0", |number: &f64| number.is_finite() && *number > 0.0)
}

fn time(key: &'static str, written: Option<&str>) -> Result<Bounded<Duration>, SettingsError> {
    let seconds = positive(key, written)?;
    let time = |seconds: Option<f64>| seconds.map(Duration::try_from_secs_f64).transpose();
    let refused = |error: std::time::TryFromFloatSecsError| {
        SettingsError::value(key, written.unwrap_or_default(), error.to_string())
    };
    Ok(Bounded {
        default: time(seconds.default).map_err(refused)?,
        most: time(seconds.most).map_err(refused)?,
    })
}

/// `2`: sessions that ask for nothing get 2; `2:8`: and none more than 8;
/// `:8`: none more than 8.
fn bounded<T: FromStr + Copy + PartialOrd>(
    key: &'static str,
    written: Option<&str>,
    wanted: &str,
    fits: impl Fn(&T) -> bool,
) -> Result<Bounded<T>, SettingsError> {
    let Some(written) = written else { return Ok(Bounded { default: None, most: None }) };
    let refused = |reason| SettingsError::value(key, written, reason);
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => match text.parse::<T>().ok().filter(&fits) {
            Some(number) => Ok(Some(number)),
            None => Err(refused(format!("expected DEFAULT[:MOST], each {wanted}"))),
        },
    };
    let (default, most) = written.split_once(':').unwrap_or((written, ""));
    let bounded = Bounded { default: number(default)?, most: number(most)? };
    match (bounded.default, bounded.most) {
        (None, None) => Err(refused(format!("expected DEFAULT[:MOST], each {wanted}"))),
        (Some(default), Some(most)) if default > most => {
            Err(refused("the default is more than the most".to_owned()))
        }
        _ => Ok(bounded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(written: &str) -> Result<Bounded<u64>, String> {
        let memory_limit_bytes = Some(written.to_owned());
        let raw = RawSettings { memory_limit_bytes, ..RawSettings::default() };
        limits(&raw, None).map(|limits| limits.memory_bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_limit_has_a_default_and_a_most() {
        assert_eq!(memory("2"), Ok(Bounded { default: Some(2), most: None }));
        assert_eq!(memory("2:8"), Ok(Bounded { default: Some(2), most: Some(8) }));
        assert_eq!(memory(":8"), Ok(Bounded { default: None, most: Some(8) }));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name_and_value() {
        for written in ["", ":", "2GB", "0", "-1", "9:8", "1:x"] {
            let error = memory(written).unwrap_err();
            let expected = format!("setting `memory-limit-bytes` cannot be `{written}`");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_share_of_the_machine_is_a_weight_and_a_ceiling() {
        let options = |share| {
            limits(&RawSettings { machine_share: Some(share), ..RawSettings::default() }, None)
        };
        let quarter = options(0.25).unwrap();
        assert!(quarter.cpu_weight.is_some_and(|weight| (weight - 1.0 / 3.0).abs() < 1e-9));
        let memory = machine::memory_bytes().unwrap();
        assert!(quarter.memory_ceiling_bytes.unwrap().abs_diff(memory / 4) < 4096);
        for share in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(options(share).is_err(), "{share}");
        }
    }
}
