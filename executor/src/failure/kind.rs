//! The closed list.

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The task's function raised.
    TaskRaised,
    /// The task called `sys.exit`.
    TaskExited,
    /// The worker could not unpickle the batch.
    ArgumentUnreadable,
    /// The worker could not pickle a result.
    ResultUnpicklable,
    /// The worker process died.
    WorkerCrashed,
    /// A task passed its wall-time limit.
    TimeLimit,
    /// A worker passed its memory limit.
    MemoryLimit,
    /// The driver ended the call first.
    Cancelled,
    /// The driver and the environments do not fit together.
    EnvironmentMismatch,
    /// The two sides speak different versions of the contract.
    ProtocolMismatch,
    /// The agent takes nothing new.
    AgentDraining,
    /// No worker could be started.
    WorkerStartFailed,
    /// The user's initializer raised.
    InitializerFailed,
    /// A bound of the agent was passed.
    QuotaExceeded,
    /// A defect in Clutch itself.
    Internal,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The task's code, arguments or results.
    Task,
    /// The driver: what it asked for cannot be done.
    Driver,
    /// The agent or its machine.
    Agent,
    /// It was asked for.
    Nobody,
}

impl Kind {
    /// Every member.
    pub const ALL: [Self; 15] = [
        Self::TaskRaised,
        Self::TaskExited,
        Self::ArgumentUnreadable,
        Self::ResultUnpicklable,
        Self::WorkerCrashed,
        Self::TimeLimit,
        Self::MemoryLimit,
        Self::Cancelled,
        Self::EnvironmentMismatch,
        Self::ProtocolMismatch,
        Self::AgentDraining,
        Self::WorkerStartFailed,
        Self::InitializerFailed,
        Self::QuotaExceeded,
        Self::Internal,
    ];

    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::TaskRaised
            | Self::TaskExited
            | Self::ArgumentUnreadable
            | Self::ResultUnpicklable
            | Self::WorkerCrashed
            | Self::TimeLimit
            | Self::MemoryLimit => Fault::Task,
            Self::EnvironmentMismatch
            | Self::ProtocolMismatch
            | Self::InitializerFailed
            | Self::QuotaExceeded => Fault::Driver,
            Self::AgentDraining | Self::WorkerStartFailed | Self::Internal => Fault::Agent,
            Self::Cancelled => Fault::Nobody,
        }
    }

    /// What to do about it, in one line.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::TaskRaised => "read the remote traceback; the error is in the task",
            Self::TaskExited => "return from the function instead of calling sys.exit",
            Self::ArgumentUnreadable => {
                "make the modules that the task refers to importable in the agent's environment"
            }
            Self::ResultUnpicklable => "return something that pickle or cloudpickle can write",
            Self::WorkerCrashed => {
                "look at the stack in the standard error above; a SIGKILL from outside is often \
                 the kernel short of memory"
            }
            Self::TimeLimit => "raise task_timeout, or make the task smaller",
            Self::MemoryLimit => "raise the memory limit, or give each task less data",
            Self::Cancelled => "nothing: the call was ended on request",
            Self::EnvironmentMismatch => {
                "start the agent with --python PATH of an environment like the driver's"
            }
            Self::ProtocolMismatch => "install the same version of joblib-clutch on both sides",
            Self::AgentDraining => "use another agent, or start this one again",
            Self::WorkerStartFailed => "read the agent's log; the environment may be broken",
            Self::InitializerFailed => "read the remote traceback; the error is in initializer",
            Self::QuotaExceeded => "send less at once, or raise the named setting of the agent",
            Self::Internal => "please report this, with the agent's log",
        }
    }
}
