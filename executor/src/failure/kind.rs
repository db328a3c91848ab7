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
    /// Somebody killed the worker process from outside.
    WorkerKilled,
    /// Memory ran short, and the worker made way.
    MemoryPressure,
    /// A task passed its limit on CPU time.
    CpuTimeLimit,
    /// A worker had more processes than its limit for too long.
    ProcessLimit,
    /// A worker's scratch directory passed its limit.
    ScratchLimit,
    /// Several workers in a row died of the batch.
    PoisonousBatch,
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
    pub const ALL: [Self; 21] = [
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
        Self::WorkerKilled,
        Self::MemoryPressure,
        Self::CpuTimeLimit,
        Self::ProcessLimit,
        Self::ScratchLimit,
        Self::PoisonousBatch,
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
            | Self::MemoryLimit
            | Self::CpuTimeLimit
            | Self::ProcessLimit
            | Self::ScratchLimit
            | Self::PoisonousBatch => Fault::Task,
            Self::EnvironmentMismatch
            | Self::ProtocolMismatch
            | Self::InitializerFailed
            | Self::QuotaExceeded => Fault::Driver,
            Self::AgentDraining
            | Self::WorkerStartFailed
            | Self::Internal
            | Self::WorkerKilled
            | Self::MemoryPressure => Fault::Agent,
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
            Self::WorkerCrashed => "look at the stack in the standard error above",
            Self::TimeLimit => "raise task_timeout, or make the task smaller",
            Self::MemoryLimit => "raise memory_limit, or give each task less data",
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
            Self::WorkerKilled => {
                "find out who killed the process: an administrator, another program, the task \
                 itself, or the kernel short of memory"
            }
            Self::MemoryPressure => {
                "run fewer tasks at once, give each less data, or set memory_limit"
            }
            Self::CpuTimeLimit => "raise task_cpu_timeout, or make the task smaller",
            Self::ProcessLimit => "raise process_limit, or start fewer processes and threads",
            Self::ScratchLimit => "raise scratch_limit, or write less to TMPDIR",
            Self::PoisonousBatch => "correct the named task; it ends its worker each time",
        }
    }

    /// True when neither the tasks nor a limit of theirs ended the attempt, so
    /// that another one may go well.
    pub const fn is_infrastructure(self) -> bool {
        matches!(self, Self::WorkerKilled | Self::MemoryPressure)
    }
}
