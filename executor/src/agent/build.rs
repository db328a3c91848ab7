//! From settings to parts, with nothing running yet.

use std::path::{Path, PathBuf};

use clutch_access::AccessError;

use super::access::{AgentAccess, prepare};
use super::lifeline::Lifeline;
use crate::exit_code::Ending;
use crate::limits::Enforcer;
use crate::pool::{EnvironmentError, PythonEnvironment, ZygoteOptions, probe};
use crate::service::{BoundListener, ListenError, bind};
use crate::settings::{PoolOptions, Settings};
use crate::worker_user::UserError;

/// Everything an agent is made of.
pub(super) struct Built {
    pub(super) settings: Settings,
    pub(super) environments: Vec<PythonEnvironment>,
    pub(super) zygote: ZygoteOptions,
    pub(super) listener: BoundListener,
    pub(super) enforcer: Enforcer,
    /// `None`: on a Unix socket.
    pub(super) access: Option<AgentAccess>,
    /// `None`: the agent outlives its parent.
    pub(super) lifeline: Option<Lifeline>,
}

/// Why an agent cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("setting `python` cannot be used")]
    Environment(#[source] EnvironmentError),
    #[error("the interpreter host `{0}` is not there")]
    NoInterpreterLibrary(PathBuf),
    #[error("the agent has no credentials")]
    Access(#[source] AccessError),
    #[error("setting `worker-user` does not fit")]
    Closed(#[from] UserError),
    #[error(transparent)]
    Listen(ListenError),
    #[error("this process cannot find itself")]
    NoBinary(#[source] std::io::Error),
    #[error("the parent process cannot be watched")]
    NoParent(#[source] std::io::Error),
}

impl BuildError {
    /// The exit code that tells it.
    pub(super) const fn ending(&self) -> Ending {
        match self {
            Self::Environment(_)
            | Self::NoInterpreterLibrary(_)
            | Self::Access(_)
            | Self::Closed(_) => Ending::Settings,
            Self::Listen(_) => Ending::Listen,
            Self::NoBinary(_) | Self::NoParent(_) => Ending::Internal,
        }
    }
}

/// Builds the parts; the address is bound last.
pub(super) fn build(settings: Settings) -> Result<Built, BuildError> {
    let lifeline = settings.exit_with_parent.then(Lifeline::to_parent).transpose();
    let lifeline = lifeline.map_err(BuildError::NoParent)?;
    let environments = settings.pool.pythons.iter().map(|python| probe(python));
    let environments =
        environments.collect::<Result<Vec<_>, _>>().map_err(BuildError::Environment)?;
    let binary = std::env::current_exe().map_err(BuildError::NoBinary)?;
    let interpreter_library = interpreter_library(&settings.pool, &binary)?;
    if let Some(user) = &settings.pool.user {
        let own = environments.iter().flat_map(|it| [&it.executable, &it.libpython]);
        for file in own.chain([&interpreter_library]) {
            user.may_read(file)?;
        }
    }
    let access = prepare(&settings.network.credentials).map_err(BuildError::Access)?;
    let network = &settings.network;
    let listener = bind(&network.address, network.group).map_err(BuildError::Listen)?;
    // Last: whoever has it closes it.
    let enforcer = Enforcer::probe(&settings.limits);
    let pool = &settings.pool;
    let zygote = ZygoteOptions {
        binary,
        interpreter_library,
        user: pool.user.clone(),
        sandbox: pool.sandbox,
        warm: pool.warm.clone(),
        learn: pool.learn_modules,
        start: pool.start,
        max_batch_bytes: pool.max_batch_bytes,
        max_waiting: pool.max_slots * 4 + 16,
        enforcer: enforcer.clone(),
    };
    Ok(Built { settings, environments, zygote, listener, enforcer, access, lifeline })
}

fn interpreter_library(pool: &PoolOptions, binary: &Path) -> Result<PathBuf, BuildError> {
    let beside = || binary.with_file_name("libclutch_interpreter.so");
    let library = pool.interpreter_library.clone().unwrap_or_else(beside);
    if library.is_file() { Ok(library) } else { Err(BuildError::NoInterpreterLibrary(library)) }
}
