//! Every exit code of `clutch`, with its meaning.

use std::process::ExitCode;

/// How the process ends. The numbers follow `sysexits.h` where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was asked for is done.
    Done,
    /// The command line is not understood.
    Usage,
    /// A setting is invalid; nothing was started.
    Settings,
    /// The address cannot be listened on.
    Listen,
    /// The interpreter host could not start; only for the hidden subcommand.
    Host,
    /// The drain deadline passed, or a second signal came, with batches running.
    Killed,
    /// A defect in Clutch or a failure of the operating system.
    Internal,
}

impl Ending {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Listen => 69,
            Self::Internal => 70,
            Self::Host => 71,
            Self::Killed => 75,
            Self::Settings => 78,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending.code())
    }
}
