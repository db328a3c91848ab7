//! The command line.

use std::io::Write;
use std::os::fd::{IntoRawFd, RawFd};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clutch_sandbox::Sandbox;

use crate::error_chain::chain;
use crate::exit_code::Ending;
use crate::host::{HostOptions, HostUser};
use crate::operator::{AccessArguments, DrainArguments, StatusArguments};
use crate::settings::RawSettings;

/// Runs joblib batches in forked Python interpreters.
#[derive(Debug, Parser)]
#[command(name = "clutch", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `clutch` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs an agent: the process that serves drivers on this machine.
    Agent(Box<RawSettings>),
    /// Says what an agent with these settings can promise on this machine, and
    /// what not.
    Doctor(Box<RawSettings>),
    /// Shows what agents do now: slots, sessions, workers.
    Status(StatusArguments),
    /// Has an agent take nothing new, finish what it has, and end.
    Drain(DrainArguments),
    /// Makes access files for drivers.
    Access(AccessArguments),
    /// What the agent starts; not for people.
    #[command(hide = true)]
    Zygote(ZygoteArguments),
}

/// What an agent tells its zygote.
#[derive(Debug, Args)]
pub struct ZygoteArguments {
    #[arg(long)]
    libpython: PathBuf,
    #[arg(long)]
    interpreter_library: PathBuf,
    #[arg(long)]
    python: PathBuf,
    #[arg(long, value_delimiter = ',')]
    warm: Vec<String>,
    #[arg(long)]
    max_payload_bytes: u64,
    #[arg(long)]
    agent_pid: u32,
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long)]
    gid: Option<u32>,
    #[arg(long, value_delimiter = ',')]
    groups: Vec<u32>,
    #[arg(long, default_value_t)]
    sandbox: Sandbox,
}

impl ZygoteArguments {
    /// The options of the host. The control line is taken off standard input,
    /// where the agent put it, and replaced by nothing.
    ///
    /// # Errors
    /// When descriptors cannot be moved.
    pub fn into_options(self) -> std::io::Result<HostOptions> {
        Ok(HostOptions {
            libpython: self.libpython,
            interpreter_library: self.interpreter_library,
            python: self.python,
            control_fd: take_stdin()?,
            warm: self.warm.into_iter().filter(|module| !module.is_empty()).collect(),
            max_payload_bytes: self.max_payload_bytes,
            agent_pid: self.agent_pid,
            user: self.uid.zip(self.gid).map(|(uid, gid)| HostUser {
                uid,
                gid,
                groups: self.groups,
            }),
            sandbox: self.sandbox,
        })
    }
}

fn take_stdin() -> std::io::Result<RawFd> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(control.into_raw_fd())
}

/// Says what is wrong with a command line, or gives the help that was asked
/// for.
pub fn explain(error: &clap::Error) -> Ending {
    // Nobody left to tell when this fails.
    error.print().ok();
    if error.use_stderr() { Ending::Usage } else { Ending::Done }
}

/// Says on standard error why the process ends, with the causes.
pub fn complain(error: &dyn std::error::Error) {
    // Nobody left to tell when this fails.
    writeln!(std::io::stderr(), "clutch: {}", chain(error)).ok();
}
