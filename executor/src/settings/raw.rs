//! Settings as written.

use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use serde::Deserialize;

use super::SettingsError;

/// The one list of settings. A field's comment is its documentation: in
/// `clutch agent --help` and in `docs/settings.md`.
#[derive(Debug, Default, Clone, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawSettings {
    /// TOML file with settings, named as the flags without the dashes. Flags and environment
    /// win over it.
    #[arg(long, env = "CLUTCH_SETTINGS", value_name = "FILE")]
    #[serde(skip)]
    pub settings: Option<PathBuf>,

    /// Address to listen on: `unix:/absolute/path`, `unix-abstract:NAME`, which leaves no file
    /// behind, `private`: an abstract address with an unguessable name, told in the ready line, or
    /// `HOST:PORT`, port 0 for any that is free. A port needs `access-file`, or certificates and a
    /// token. Default: `private`.
    #[arg(long, env = "CLUTCH_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// File with the certificates and the token that agents and drivers on TCP share. When it is
    /// not there, the agent makes it. It adds its address to it, and takes it out again at its end.
    /// Default: none.
    #[arg(long, env = "CLUTCH_ACCESS_FILE", value_name = "FILE")]
    pub access_file: Option<PathBuf>,

    /// Address to write into the access file, as others reach it; port 0: the one that it listens
    /// on. Default: the address that it listens on, and for `0.0.0.0` and `[::]` the host's name.
    #[arg(long, env = "CLUTCH_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// Group whose members may use the Unix socket too, by name or number. They can then do
    /// whatever the agent's user can. Default: nobody but the agent's own user.
    #[arg(long, env = "CLUTCH_ALLOW_GROUP", value_name = "GROUP")]
    pub allow_group: Option<String>,

    /// Certificates of this agent in PEM, its own one first, for serving and for calling other
    /// agents; instead of `access-file`. Default: none.
    #[arg(long, env = "CLUTCH_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,

    /// Its private key in PEM. Default: none.
    #[arg(long, env = "CLUTCH_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Certificates in PEM of those who vouch for drivers and for other agents. Default: none.
    #[arg(long, env = "CLUTCH_TLS_AUTHORITY", value_name = "FILE")]
    pub tls_authority: Option<PathBuf>,

    /// File with the token that callers have to show: 64 hexadecimal digits. Alone, without
    /// certificates, it does on loopback. Default: none.
    #[arg(long, env = "CLUTCH_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Connections that have authenticated, at once. Default: 256.
    #[arg(long, env = "CLUTCH_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<usize>,

    /// Seconds of silence after which a driver is asked for a sign of life. Default: 10.
    #[arg(long, env = "CLUTCH_KEEPALIVE_SECONDS", value_name = "SECONDS")]
    pub keepalive_seconds: Option<f64>,

    /// Seconds that its answer may take before the connection is given up. Default: 5.
    #[arg(long, env = "CLUTCH_KEEPALIVE_TIMEOUT_SECONDS", value_name = "SECONDS")]
    pub keepalive_timeout_seconds: Option<f64>,

    /// Python interpreter of an environment to serve. May be repeated (in the environment
    /// variable: separated by colons). Default: `python3` on the PATH.
    #[arg(long, env = "CLUTCH_PYTHON", value_name = "PATH", value_delimiter = ':')]
    pub python: Vec<PathBuf>,

    /// Modules that each zygote imports ahead, separated by commas. Missing ones are skipped.
    /// Default: `numpy,scipy,sklearn,joblib,cloudpickle,threadpoolctl,joblib_clutch`.
    #[arg(long, env = "CLUTCH_WARM", value_name = "MODULES", value_delimiter = ',')]
    pub warm: Vec<String>,

    /// Whether zygotes learn the modules of installed packages that tasks import, and import them
    /// ahead for later workers. Default: `true`.
    #[arg(long, env = "CLUTCH_LEARN_MODULES", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub learn_modules: Option<bool>,

    /// User that zygotes and workers run as, when root runs the agent. Default: the agent's own on a
    /// Unix socket, where only that user may connect; else `nobody`.
    #[arg(long, env = "CLUTCH_WORKER_USER", value_name = "NAME")]
    pub worker_user: Option<String>,

    /// What tasks are kept from, with all that they start. `processes`: other processes than their
    /// own, that is signals to them, a look into them, and their abstract Unix sockets, which takes
    /// Linux 6.12. `no-tcp`: the same, and TCP. `off`: nothing. Default: `off`.
    #[arg(long, env = "CLUTCH_SANDBOX", value_name = "KIND")]
    pub sandbox: Option<String>,

    /// Batches that run at once. Default: the CPUs that this process may use.
    #[arg(long, env = "CLUTCH_SLOTS", value_name = "COUNT")]
    pub slots: Option<usize>,

    /// Batches that run at once while a call asks for more than the slots, by joblib's `n_jobs`;
    /// as many workers are alive then. Default: the slots.
    #[arg(long, env = "CLUTCH_MAX_SLOTS", value_name = "COUNT")]
    pub max_slots: Option<usize>,

    /// Worker processes alive at once, idle ones included. More than the slots. Default: four
    /// times the slots.
    #[arg(long, env = "CLUTCH_MAX_WORKERS", value_name = "COUNT")]
    pub max_workers: Option<usize>,

    /// Seconds that an idle worker is kept. Default: 300.
    #[arg(long, env = "CLUTCH_WORKER_IDLE_SECONDS", value_name = "SECONDS")]
    pub worker_idle_seconds: Option<f64>,

    /// Batches after which a worker is replaced; 0: never. Default: 0.
    #[arg(long, env = "CLUTCH_WORKER_MAX_BATCHES", value_name = "COUNT")]
    pub worker_max_batches: Option<u64>,

    /// Growth of a worker's own memory since its first batch, in bytes, after which it is replaced
    /// between batches; 0: never. Default: 1073741824 (1 GiB).
    #[arg(long, env = "CLUTCH_WORKER_MAX_GROWTH_BYTES", value_name = "BYTES")]
    pub worker_max_growth_bytes: Option<u64>,

    /// Seconds that starting a zygote with its warm modules may take. Default: 60.
    #[arg(long, env = "CLUTCH_START_SECONDS", value_name = "SECONDS")]
    pub start_seconds: Option<f64>,

    /// Sessions open at once. Default: 256.
    #[arg(long, env = "CLUTCH_MAX_SESSIONS", value_name = "COUNT")]
    pub max_sessions: Option<usize>,

    /// Seconds that a session may outlive a connection that broke, when its driver asks for it;
    /// 0: not at all. Default: 60.
    #[arg(long, env = "CLUTCH_SILENCE_SECONDS", value_name = "SECONDS")]
    pub silence_seconds: Option<f64>,

    /// Batches of one session that run at once, over all its calls. Default: the slots.
    #[arg(long, env = "CLUTCH_MAX_SESSION_SLOTS", value_name = "COUNT")]
    pub max_session_slots: Option<u32>,

    /// The most that a session may weigh when several want slots, from 0.01 to 100. One that asks
    /// for nothing weighs 1. Default: 100.
    #[arg(long, env = "CLUTCH_MAX_SESSION_WEIGHT", value_name = "WEIGHT")]
    pub max_session_weight: Option<f64>,

    /// Batches of one session that wait or run. Default: 65536.
    #[arg(long, env = "CLUTCH_MAX_OPEN_BATCHES", value_name = "COUNT")]
    pub max_open_batches: Option<usize>,

    /// Bytes of one batch, and of one result. Default: 17179869184 (16 GiB).
    #[arg(long, env = "CLUTCH_MAX_BATCH_BYTES", value_name = "BYTES")]
    pub max_batch_bytes: Option<u64>,

    /// Bytes that the waiting batches of one session may hold. Default: half of the machine's
    /// memory.
    #[arg(long, env = "CLUTCH_MAX_SESSION_BYTES", value_name = "BYTES")]
    pub max_session_bytes: Option<u64>,

    /// Shared memory that big arguments and results may take together, in bytes; what is over goes
    /// to disk. Default: half of the machine's memory.
    #[arg(long, env = "CLUTCH_BLOB_MEMORY_BYTES", value_name = "BYTES")]
    pub blob_memory_bytes: Option<u64>,

    /// Directory for big arguments and results that are over `blob-memory-bytes`. Its files have
    /// no names. Default: the system's directory for temporary files.
    #[arg(long, env = "CLUTCH_SPILL_DIRECTORY", value_name = "DIRECTORY")]
    pub spill_directory: Option<PathBuf>,

    /// Bytes that they may take in `spill-directory`; 0: nothing goes to disk. Default: twice the
    /// machine's memory.
    #[arg(long, env = "CLUTCH_SPILL_BYTES", value_name = "BYTES")]
    pub spill_bytes: Option<u64>,

    /// Seconds that content which came by its digest is kept after its last use, for whoever offers
    /// it again; sooner when room is needed. Default: 300.
    #[arg(long, env = "CLUTCH_BLOB_KEEP_SECONDS", value_name = "SECONDS")]
    pub blob_keep_seconds: Option<f64>,

    /// Memory of a worker with all that it starts, in bytes: for sessions that ask for nothing, and
    /// after a colon the most that a session may ask for. Default: no limit.
    #[arg(long, env = "CLUTCH_MEMORY_LIMIT_BYTES", value_name = "DEFAULT[:MOST]")]
    pub memory_limit_bytes: Option<String>,

    /// CPUs of a worker, fractions included; as `memory-limit-bytes`. Default: no limit.
    #[arg(long, env = "CLUTCH_CPUS_PER_TASK", value_name = "DEFAULT[:MOST]")]
    pub cpus_per_task: Option<String>,

    /// Wall time of a task, in seconds; as `memory-limit-bytes`. Default: no limit.
    #[arg(long, env = "CLUTCH_TASK_TIMEOUT_SECONDS", value_name = "DEFAULT[:MOST]")]
    pub task_timeout_seconds: Option<String>,

    /// CPU time of a task over all its threads and processes, in seconds; as
    /// `memory-limit-bytes`. Default: no limit.
    #[arg(long, env = "CLUTCH_TASK_CPU_SECONDS", value_name = "DEFAULT[:MOST]")]
    pub task_cpu_seconds: Option<String>,

    /// Processes and threads of a worker; as `memory-limit-bytes`. Default: no limit.
    #[arg(long, env = "CLUTCH_PROCESS_LIMIT", value_name = "DEFAULT[:MOST]")]
    pub process_limit: Option<String>,

    /// Open files of each process of a worker; as `memory-limit-bytes`. Default: the agent's own
    /// limit.
    #[arg(long, env = "CLUTCH_OPEN_FILES_LIMIT", value_name = "DEFAULT[:MOST]")]
    pub open_files_limit: Option<String>,

    /// Size of a worker's scratch directory in bytes; as `memory-limit-bytes`. Default: no limit,
    /// and no such directory.
    #[arg(long, env = "CLUTCH_SCRATCH_LIMIT_BYTES", value_name = "DEFAULT[:MOST]")]
    pub scratch_limit_bytes: Option<String>,

    /// Directory in which workers with a limit on it get a scratch directory, and sessions one
    /// for code of their drivers. Default: the system's directory for temporary files.
    #[arg(long, env = "CLUTCH_SCRATCH_DIRECTORY", value_name = "DIRECTORY")]
    pub scratch_directory: Option<PathBuf>,

    /// Memory of all workers together, in bytes. Short of it the youngest batch that can be run
    /// again makes way. Default: that part of the machine's memory which `machine-share` says.
    #[arg(long, env = "CLUTCH_MEMORY_CEILING_BYTES", value_name = "BYTES")]
    pub memory_ceiling_bytes: Option<u64>,

    /// Part of the machine that the workers together may take from others, more than 0 and less
    /// than 1: their weight when CPUs are short, and a ceiling on their memory. For agents beside
    /// other services, a Spark worker for example. Default: nothing is set.
    #[arg(long, env = "CLUTCH_MACHINE_SHARE", value_name = "FRACTION")]
    pub machine_share: Option<f64>,

    /// Whether control groups may be used to enforce limits; otherwise the agent samples. Default:
    /// `true`.
    #[arg(long, env = "CLUTCH_CGROUPS", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub cgroups: Option<bool>,

    /// Seconds that running batches get to finish after SIGTERM. Default: 30.
    #[arg(long, env = "CLUTCH_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<f64>,

    /// End as soon as the process that started the agent ends, however it ends.
    #[arg(long, env = "CLUTCH_EXIT_WITH_PARENT", value_parser = BoolishValueParser::new())]
    pub exit_with_parent: bool,

    /// The interpreter host library. Default: `libclutch_interpreter.so` beside the binary.
    #[arg(long, env = "CLUTCH_INTERPRETER_LIBRARY", value_name = "PATH")]
    pub interpreter_library: Option<PathBuf>,

    /// What to log on standard error, in the syntax of tracing's `EnvFilter`, for example
    /// `info` or `clutch_executor=debug`. Default: `warn`.
    #[arg(long, env = "CLUTCH_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl RawSettings {
    /// Fills what flags and environment leave open from the settings file, if
    /// one is named.
    ///
    /// # Errors
    /// [`SettingsError`] when the file cannot be read or understood.
    pub fn with_file(self) -> Result<Self, SettingsError> {
        match &self.settings {
            None => Ok(self),
            Some(path) => {
                let file = Self::read(path)?;
                Ok(self.over(file))
            }
        }
    }

    fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| SettingsError::Invalid {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    fn over(self, file: Self) -> Self {
        let list = |own: Vec<_>, file| if own.is_empty() { file } else { own };
        Self {
            settings: self.settings,
            listen: self.listen.or(file.listen),
            access_file: self.access_file.or(file.access_file),
            advertise: self.advertise.or(file.advertise),
            allow_group: self.allow_group.or(file.allow_group),
            tls_certificate: self.tls_certificate.or(file.tls_certificate),
            tls_key: self.tls_key.or(file.tls_key),
            tls_authority: self.tls_authority.or(file.tls_authority),
            token_file: self.token_file.or(file.token_file),
            max_connections: self.max_connections.or(file.max_connections),
            keepalive_seconds: self.keepalive_seconds.or(file.keepalive_seconds),
            keepalive_timeout_seconds: self
                .keepalive_timeout_seconds
                .or(file.keepalive_timeout_seconds),
            python: if self.python.is_empty() { file.python } else { self.python },
            warm: list(self.warm, file.warm),
            learn_modules: self.learn_modules.or(file.learn_modules),
            worker_user: self.worker_user.or(file.worker_user),
            sandbox: self.sandbox.or(file.sandbox),
            slots: self.slots.or(file.slots),
            max_slots: self.max_slots.or(file.max_slots),
            max_workers: self.max_workers.or(file.max_workers),
            worker_idle_seconds: self.worker_idle_seconds.or(file.worker_idle_seconds),
            worker_max_batches: self.worker_max_batches.or(file.worker_max_batches),
            worker_max_growth_bytes: self.worker_max_growth_bytes.or(file.worker_max_growth_bytes),
            start_seconds: self.start_seconds.or(file.start_seconds),
            max_sessions: self.max_sessions.or(file.max_sessions),
            silence_seconds: self.silence_seconds.or(file.silence_seconds),
            max_session_slots: self.max_session_slots.or(file.max_session_slots),
            max_session_weight: self.max_session_weight.or(file.max_session_weight),
            max_open_batches: self.max_open_batches.or(file.max_open_batches),
            max_batch_bytes: self.max_batch_bytes.or(file.max_batch_bytes),
            max_session_bytes: self.max_session_bytes.or(file.max_session_bytes),
            blob_memory_bytes: self.blob_memory_bytes.or(file.blob_memory_bytes),
            spill_directory: self.spill_directory.or(file.spill_directory),
            spill_bytes: self.spill_bytes.or(file.spill_bytes),
            blob_keep_seconds: self.blob_keep_seconds.or(file.blob_keep_seconds),
            memory_limit_bytes: self.memory_limit_bytes.or(file.memory_limit_bytes),
            cpus_per_task: self.cpus_per_task.or(file.cpus_per_task),
            task_timeout_seconds: self.task_timeout_seconds.or(file.task_timeout_seconds),
            task_cpu_seconds: self.task_cpu_seconds.or(file.task_cpu_seconds),
            process_limit: self.process_limit.or(file.process_limit),
            open_files_limit: self.open_files_limit.or(file.open_files_limit),
            scratch_limit_bytes: self.scratch_limit_bytes.or(file.scratch_limit_bytes),
            scratch_directory: self.scratch_directory.or(file.scratch_directory),
            memory_ceiling_bytes: self.memory_ceiling_bytes.or(file.memory_ceiling_bytes),
            machine_share: self.machine_share.or(file.machine_share),
            cgroups: self.cgroups.or(file.cgroups),
            drain_seconds: self.drain_seconds.or(file.drain_seconds),
            exit_with_parent: self.exit_with_parent || file.exit_with_parent,
            interpreter_library: self.interpreter_library.or(file.interpreter_library),
            log: self.log.or(file.log),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, RawSettings) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clutch.toml");
        std::fs::write(&path, text).unwrap();
        (folder, RawSettings { settings: Some(path), ..RawSettings::default() })
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_nothing() {
        let (_folder, mut raw) = file("slots = 3\ndrain-seconds = 1.5\n");
        raw.slots = Some(7);
        let raw = raw.with_file().unwrap();
        assert_eq!((raw.slots, raw.drain_seconds), (Some(7), Some(1.5)));
    }

    #[test]
    fn an_unknown_key_in_the_file_is_refused_by_name() {
        let (_folder, raw) = file("slotz = 3\n");
        let error = raw.with_file().unwrap_err();
        let SettingsError::Invalid { source, .. } = error else { panic!("{error:?}") };
        assert!(source.to_string().contains("slotz"), "{source}");
    }
}
