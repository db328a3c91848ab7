//! Settings as they apply: validated, with defaults, cut into one slice for
//! each room.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clutch_sandbox::Sandbox;

use super::limits::limits;
use super::network::{NetworkOptions, network};
use super::{RawSettings, SettingsError};
use crate::error_chain::chain;
use crate::limits::LimitOptions;
use crate::machine;
use crate::scheduler::{self, Weight};
use crate::worker_user::WorkerUser;

/// Everything, validated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen, and what to ask of callers.
    pub network: NetworkOptions,
    /// For the room `scheduler`.
    pub scheduler: scheduler::Options,
    /// For the room `pool`.
    pub pool: PoolOptions,
    /// For the room `session`.
    pub session: SessionOptions,
    /// What sessions may have of the slots.
    pub shares: ShareOptions,
    /// For the room `blobs`.
    pub blobs: BlobOptions,
    /// How long content that came by its digest is kept after its last use.
    pub blob_keep: Duration,
    /// For the room `limits`.
    pub limits: LimitOptions,
    /// For the end.
    pub drain: DrainOptions,
    /// End with the parent process.
    pub exit_with_parent: bool,
    /// What to log.
    pub log: String,
}

/// For the room `pool`.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Interpreters of the environments.
    pub pythons: Vec<PathBuf>,
    /// Whom zygotes and workers run as; `None`: as the agent.
    pub user: Option<WorkerUser>,
    /// What tasks are kept from.
    pub sandbox: Sandbox,
    /// Modules to import ahead.
    pub warm: Vec<String>,
    /// Whether zygotes learn what sessions import.
    pub learn_modules: bool,
    /// The interpreter host; `None`: beside the binary.
    pub interpreter_library: Option<PathBuf>,
    /// Batches after which a worker is replaced.
    pub worker_max_batches: Option<u64>,
    /// Growth after which a worker is replaced, bytes.
    pub worker_max_growth_bytes: Option<u64>,
    /// How long a zygote may take to start.
    pub start: Duration,
    /// Most bytes of a batch or a result.
    pub max_batch_bytes: u64,
    /// CPUs to divide between the slots.
    pub cores: usize,
    /// Batches that run at once.
    pub slots: usize,
    /// The same, while a call asks for more.
    pub max_slots: usize,
}

/// For the room `session`.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// Sessions open at once.
    pub max_sessions: usize,
    /// Batches of one session that wait or run.
    pub max_open_batches: usize,
    /// Most bytes of a batch.
    pub max_batch_bytes: u64,
    /// Most bytes that the waiting batches of one session hold.
    pub max_session_bytes: u64,
    /// Longest that a session may outlive a connection that broke.
    pub max_silence: Duration,
}

impl SessionOptions {
    /// How long a session may outlive its connection whose driver asks for so
    /// many seconds.
    pub fn silence(&self, asked: f64) -> Duration {
        Duration::try_from_secs_f64(asked).unwrap_or_default().min(self.max_silence)
    }
}

/// What sessions may have of the slots.
#[derive(Debug, Clone, Copy)]
pub struct ShareOptions {
    /// The most that one may weigh.
    pub max_weight: Weight,
    /// Batches of one that may run at once; `None`: no bound but the slots.
    pub max_slots: Option<u32>,
}

/// For the room `blobs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobOptions {
    /// Most bytes in shared memory.
    pub memory_bytes: u64,
    /// Where what is over goes.
    pub spill_directory: PathBuf,
    /// Most bytes there; 0: nothing goes there.
    pub spill_bytes: u64,
}

/// For the end.
#[derive(Debug, Clone, Copy)]
pub struct DrainOptions {
    /// How long running batches get to finish.
    pub deadline: Duration,
}

/// For machines that do not tell how much memory they have.
const DEFAULT_BYTES: u64 = 8 << 30;

const DEFAULT_WARM: [&str; 7] =
    ["numpy", "scipy", "sklearn", "joblib", "cloudpickle", "threadpoolctl", "joblib_clutch"];

impl Settings {
    /// Validates, and fills in defaults.
    ///
    /// # Errors
    /// [`SettingsError::Value`] for the first value out of its range.
    pub fn resolve(raw: RawSettings) -> Result<Self, SettingsError> {
        let cores = machine::cores();
        let slots = at_least("slots", raw.slots.unwrap_or(cores), 1)?;
        let max_slots = raw.max_slots.unwrap_or(slots).max(slots);
        let max_workers = raw.max_workers.unwrap_or(slots * 4);
        let max_workers = at_least("max-workers", max_workers, slots + 1)?;
        let max_batch_bytes = raw.max_batch_bytes.unwrap_or(16 << 30);
        let network = network(&raw)?;
        let user = worker_user(raw.worker_user.as_deref(), &network)?;
        let limits = limits(&raw, user.as_ref())?;
        let warm = match raw.warm {
            warm if warm.is_empty() => DEFAULT_WARM.map(str::to_owned).to_vec(),
            warm => warm.into_iter().map(module).collect::<Result<_, _>>()?,
        };
        Ok(Self {
            network,
            scheduler: scheduler::Options {
                slots,
                max_slots,
                max_workers,
                worker_max_batches: raw.worker_max_batches.filter(|count| *count > 0),
                worker_idle: seconds("worker-idle-seconds", raw.worker_idle_seconds, 300.0)?,
            },
            pool: PoolOptions {
                pythons: pythons(raw.python)?,
                user,
                sandbox: sandbox(raw.sandbox.as_deref())?,
                warm,
                learn_modules: raw.learn_modules.unwrap_or(true),
                interpreter_library: raw.interpreter_library,
                worker_max_batches: raw.worker_max_batches.filter(|count| *count > 0),
                worker_max_growth_bytes: Some(raw.worker_max_growth_bytes.unwrap_or(1 << 30))
                    .filter(|bytes| *bytes > 0),
                start: seconds("start-seconds", raw.start_seconds, 60.0)?,
                max_batch_bytes,
                cores,
                slots,
                max_slots,
            },
            session: SessionOptions {
                max_sessions: at_least("max-sessions", raw.max_sessions.unwrap_or(256), 1)?,
                max_open_batches: at_least(
                    "max-open-batches",
                    raw.max_open_batches.unwrap_or(65_536),
                    1,
                )?,
                max_batch_bytes,
                max_session_bytes: raw.max_session_bytes.unwrap_or_else(half_of_memory),
                max_silence: seconds("silence-seconds", raw.silence_seconds, 60.0)?,
            },
            shares: shares(raw.max_session_slots, raw.max_session_weight)?,
            blobs: blobs(raw.blob_memory_bytes, raw.spill_directory, raw.spill_bytes)?,
            blob_keep: seconds("blob-keep-seconds", raw.blob_keep_seconds, 300.0)?,
            limits,
            drain: DrainOptions { deadline: seconds("drain-seconds", raw.drain_seconds, 30.0)? },
            exit_with_parent: raw.exit_with_parent,
            log: raw.log.unwrap_or_else(|| "warn".to_owned()),
        })
    }
}

fn at_least(key: &'static str, value: usize, least: usize) -> Result<usize, SettingsError> {
    if value < least {
        return Err(SettingsError::value(key, value, format!("it must be at least {least}")));
    }
    Ok(value)
}

fn seconds(key: &'static str, value: Option<f64>, default: f64) -> Result<Duration, SettingsError> {
    let value = value.unwrap_or(default);
    Duration::try_from_secs_f64(value)
        .map_err(|error| SettingsError::value(key, value, error.to_string()))
}

fn shares(max_slots: Option<u32>, max_weight: Option<f64>) -> Result<ShareOptions, SettingsError> {
    if max_slots == Some(0) {
        return Err(SettingsError::value("max-session-slots", 0, "it must be at least 1"));
    }
    let weight = |weight| {
        Weight::new(weight)
            .map_err(|error| SettingsError::value("max-session-weight", weight, error.to_string()))
    };
    let max_weight = max_weight.map(weight).transpose()?.unwrap_or(Weight::MOST);
    Ok(ShareOptions { max_weight, max_slots })
}

fn half_of_memory() -> u64 {
    machine::memory_bytes().map_or(DEFAULT_BYTES, |bytes| bytes / 2)
}

fn blobs(
    memory_bytes: Option<u64>,
    spill_directory: Option<PathBuf>,
    spill_bytes: Option<u64>,
) -> Result<BlobOptions, SettingsError> {
    let memory_bytes = memory_bytes.unwrap_or_else(half_of_memory);
    let spill_bytes = spill_bytes.unwrap_or_else(|| half_of_memory().saturating_mul(4));
    let written = spill_directory.unwrap_or_else(std::env::temp_dir);
    let refused = |reason| SettingsError::value("spill-directory", written.display(), reason);
    // Workers are told this path, whatever directory they work in.
    let spill_directory =
        std::path::absolute(&written).map_err(|error| refused(error.to_string()))?;
    if spill_bytes > 0 && !spill_directory.is_dir() {
        return Err(refused("there is no such directory".to_owned()));
    }
    if spill_directory.to_str().is_none() {
        return Err(refused("its name is not UTF-8".to_owned()));
    }
    Ok(BlobOptions { memory_bytes, spill_directory, spill_bytes })
}

fn module(name: String) -> Result<String, SettingsError> {
    let word =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    if name.split('.').all(word) {
        return Ok(name);
    }
    Err(SettingsError::value("warm", name, "it is not the name of a Python module"))
}

fn worker_user(
    written: Option<&str>,
    network: &NetworkOptions,
) -> Result<Option<WorkerUser>, SettingsError> {
    WorkerUser::choose(written, network.is_for_others()).map_err(|error| {
        SettingsError::value("worker-user", written.unwrap_or("nobody"), error.to_string())
    })
}

/// One that this machine can hold.
fn sandbox(written: Option<&str>) -> Result<Sandbox, SettingsError> {
    let Some(written) = written else { return Ok(Sandbox::Off) };
    let refused = |reason| SettingsError::value("sandbox", written, reason);
    let sandbox: Sandbox = written.parse().map_err(|error| refused(chain(&error)))?;
    sandbox.check().map_err(|error| refused(chain(&error)))?;
    Ok(sandbox)
}

fn pythons(written: Vec<PathBuf>) -> Result<Vec<PathBuf>, SettingsError> {
    let written = if written.is_empty() { vec![PathBuf::from("python3")] } else { written };
    written.iter().map(|path| python(path)).collect()
}

/// The interpreter as an absolute path. Links are kept: a virtual environment
/// is known by the path of its link.
fn python(written: &Path) -> Result<PathBuf, SettingsError> {
    let on_path = || {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).map(|folder| folder.join(written)).find(|p| p.is_file())
    };
    let found = if written.components().count() == 1 {
        on_path()
    } else {
        std::path::absolute(written).ok().filter(|path| path.is_file())
    };
    found.ok_or_else(|| {
        SettingsError::value("python", written.display(), "there is no such interpreter")
    })
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::*;

    fn raw() -> RawSettings {
        RawSettings { python: vec!["/bin/sh".into()], ..RawSettings::default() }
    }

    #[test]
    fn nothing_written_gives_a_private_agent_with_a_slot_for_each_cpu() {
        let settings = Settings::resolve(raw()).unwrap();
        assert_eq!(settings.network.address, Address::Private);
        assert_eq!(settings.scheduler.slots, settings.pool.cores);
    }

    #[test]
    fn a_call_may_ask_for_the_slots_at_least() {
        let most = |max_slots| {
            let settings = RawSettings { slots: Some(2), max_slots, ..raw() };
            Settings::resolve(settings).unwrap().scheduler.max_slots
        };
        assert_eq!([None, Some(1), Some(9)].map(most), [2, 2, 9]);
    }

    #[test]
    fn a_session_gets_the_silence_it_asks_for_as_far_as_it_is_allowed() {
        let silence = |silence_seconds, asked| {
            let options = Settings::resolve(RawSettings { silence_seconds, ..raw() }).unwrap();
            options.session.silence(asked).as_secs_f64()
        };
        assert!((silence(None, 90.0) - 60.0).abs() < 1e-9);
        assert!((silence(Some(9.0), 2.5) - 2.5).abs() < 1e-9);
        for nothing in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(silence(None, nothing) < 1e-9, "{nothing}");
        }
        assert!(silence(Some(0.0), 5.0) < 1e-9);
    }

    #[test]
    fn without_spilling_no_directory_is_needed() {
        let raw = RawSettings {
            blob_memory_bytes: Some(7),
            spill_directory: Some("/no/where".into()),
            spill_bytes: Some(0),
            ..raw()
        };
        let blobs = Settings::resolve(raw).unwrap().blobs;
        assert_eq!((blobs.memory_bytes, blobs.spill_bytes), (7, 0));
    }

    #[test]
    fn without_memory_there_is_room_on_disk() {
        let raw = RawSettings { blob_memory_bytes: Some(0), ..raw() };
        assert!(Settings::resolve(raw).unwrap().blobs.spill_bytes > 0);
    }

    #[test]
    fn a_bad_value_is_refused_by_name_and_value() {
        let cases = [
            (RawSettings { slots: Some(0), ..raw() }, "setting `slots` cannot be `0`"),
            (
                RawSettings { slots: Some(2), max_workers: Some(2), ..raw() },
                "setting `max-workers` cannot be `2`",
            ),
            (
                RawSettings { max_session_slots: Some(0), ..raw() },
                "setting `max-session-slots` cannot be `0`",
            ),
            (
                RawSettings { max_session_weight: Some(f64::NAN), ..raw() },
                "setting `max-session-weight` cannot be `NaN`",
            ),
            (
                RawSettings { drain_seconds: Some(-1.0), ..raw() },
                "setting `drain-seconds` cannot be `-1`",
            ),
            (
                RawSettings { listen: Some("0.0.0.0:80".into()), ..raw() },
                "setting `listen` cannot be `0.0.0.0:80`",
            ),
            (
                RawSettings { python: vec!["/no/python".into()], ..raw() },
                "setting `python` cannot be `/no/python`",
            ),
            (
                RawSettings { spill_directory: Some("/no/where".into()), ..raw() },
                "setting `spill-directory` cannot be `/no/where`",
            ),
            (
                RawSettings { worker_user: Some("no one".into()), ..raw() },
                "setting `worker-user` cannot be `no one`: there is no such user",
            ),
            (
                RawSettings { sandbox: Some("on".into()), ..raw() },
                "setting `sandbox` cannot be `on`: expected `off`, `processes` or `no-tcp`",
            ),
            (
                RawSettings { warm: vec!["os; evil".into()], ..raw() },
                "setting `warm` cannot be `os; evil`",
            ),
        ];
        for (raw, expected) in cases {
            let error = Settings::resolve(raw).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
