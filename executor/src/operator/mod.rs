//! What an operator asks of agents from a shell: `clutch status`, `clutch drain`
//! and `clutch access`. On this side of the contract the program is a caller, as a
//! driver is.

mod access;
mod drain;
mod reach;
mod status;
mod table;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::complain;
use crate::error_chain::chain;
use crate::exit_code::Ending;
use reach::ReachError;

/// Which agents are meant.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Access file of the agents, or its copy for drivers.
    #[arg(long, env = "CLUTCH_ACCESS_FILE", value_name = "FILE")]
    access_file: Option<PathBuf>,

    /// One of its agents, also one that it does not name. May be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    agent: Vec<String>,

    /// An agent on this machine: `unix:/path` or `unix-abstract:NAME`.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["agent"])]
    address: Option<String>,
}

/// `clutch status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    which: Which,
}

/// `clutch drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArguments {
    #[command(flatten)]
    which: Which,

    /// All agents that the access file names, one after the other.
    #[arg(long, conflicts_with_all = ["agent", "address"])]
    all: bool,
}

/// `clutch access`.
#[derive(Debug, Clone, Args)]
pub struct AccessArguments {
    /// Copy this access file without what agents alone need.
    #[arg(long, value_name = "FILE", required_unless_present = "token_file")]
    for_drivers: Option<PathBuf>,

    /// Put one together: the token that agents ask for.
    #[arg(long, value_name = "FILE", conflicts_with = "for_drivers")]
    token_file: Option<PathBuf>,

    /// Certificates of those who vouch for the agents.
    #[arg(long, value_name = "FILE", requires_all = ["tls_certificate", "tls_key", "token_file"])]
    tls_authority: Option<PathBuf>,

    /// The driver's certificates, its own one first.
    #[arg(long, value_name = "FILE", requires = "tls_authority")]
    tls_certificate: Option<PathBuf>,

    /// The driver's private key.
    #[arg(long, value_name = "FILE", requires = "tls_authority")]
    tls_key: Option<PathBuf>,

    /// An agent's address, in place of those that the copied file names. May be
    /// repeated.
    #[arg(long, value_name = "HOST:PORT")]
    agent: Vec<String>,

    /// Where to write it, with mode 0600. It must not be there yet. Without it:
    /// standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs `clutch status`.
pub fn status(arguments: &StatusArguments) -> Ending {
    run(status::status(&arguments.which))
}

/// Runs `clutch drain`.
pub fn drain(arguments: &DrainArguments) -> Ending {
    run(drain::drain(&arguments.which, arguments.all))
}

/// Runs `clutch access`.
pub fn access(arguments: &AccessArguments) -> Ending {
    match access::write(arguments) {
        Ok(()) => Ending::Done,
        Err(error) => {
            complain(&error);
            Ending::Settings
        }
    }
}

fn run(work: impl Future<Output = Result<Ending, ReachError>>) -> Ending {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            complain(&error);
            return Ending::Internal;
        }
    };
    ended.unwrap_or_else(|error| {
        complain(&error);
        error.ending()
    })
}

/// One line for people.
fn say(line: &str) {
    // Nobody left to tell when this fails.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// What a peer sent, fit for a terminal.
fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

fn because(error: &dyn std::error::Error) -> String {
    plain(&chain(error))
}
