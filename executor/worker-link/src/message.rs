//! What may be said on the lines.

use serde::{Deserialize, Serialize};

/// What an agent says to a zygote. Carries no payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToZygote {
    /// Fork a worker. Four descriptors travel along, in this order: the
    /// worker's end of its task line, its standard output, its standard error,
    /// and its progress page.
    Spawn {
        /// Names the worker in the answer.
        worker: u64,
    },
}

/// What a zygote says to its agent. Carries no payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromZygote {
    /// The interpreter runs and the warm modules are imported.
    Hello(ZygoteHello),
    /// The worker was forked. It is a child of the agent, not of the zygote.
    Spawned {
        /// As in [`ToZygote::Spawn`].
        worker: u64,
        /// Its process id.
        pid: u32,
    },
    /// The worker was not forked.
    Refused {
        /// As in [`ToZygote::Spawn`].
        worker: u64,
        /// Why, lower-case, without a full stop.
        reason: String,
        /// The error number, when the system refused.
        errno: Option<i32>,
        /// True when this zygote will never fork again because a module that it
        /// imported started threads.
        unsafe_to_fork: bool,
    },
}

/// What a zygote is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZygoteHello {
    /// For example `3.11.7`.
    pub python_version: String,
    /// `sys.implementation.name`.
    pub implementation: String,
    /// `sys.executable`.
    pub executable: String,
    /// Version of cloudpickle; empty when not installed.
    pub cloudpickle_version: String,
    /// Version of joblib; empty when not installed.
    pub joblib_version: String,
    /// Versions of packages that it imported, by name.
    pub packages: Vec<(String, String)>,
    /// Modules imported ahead, as asked for.
    pub warm_modules: Vec<String>,
    /// Modules asked for and not importable, each with the error's text.
    pub failed_modules: Vec<(String, String)>,
    /// Modules of `warm_modules` whose import started threads: this zygote will
    /// refuse to fork.
    pub threading_modules: Vec<String>,
}

/// What an agent says to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// First message. Payload: the profile's pickled setup, may be empty.
    Setup {
        /// Environment variables to set.
        variables: Vec<(String, String)>,
        /// Threads that inner pools (OpenMP, BLAS) may use, where `variables`
        /// does not say.
        threads: u32,
        /// Code of the driver for the search path.
        code: DriverCode,
    },
    /// Run a batch. Payload: the pickled list of `(function, args, kwargs)`.
    Run(RunBatch),
    /// Blobs that later batches use. Their descriptors travel along, in this
    /// order; at most [`MAX_DESCRIPTORS`](crate::MAX_DESCRIPTORS). Not answered.
    Map(Vec<MappedBlob>),
    /// Blobs that no later batch uses. Not answered.
    Forget(Vec<u64>),
    /// Leave: run exit handlers and end with code 0.
    Retire,
}

/// Modules that live only at the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverCode {
    /// Directory of the session, in which each archive is unpacked once, by
    /// whichever worker comes first; empty: there is no code.
    pub directory: String,
    /// In the order of the search path.
    pub archives: Vec<CodeArchive>,
}

/// A zip archive with code of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeArchive {
    /// The blob that it is, mapped before. The worker forgets it by itself.
    pub blob: u64,
    /// Name of the directory into which it is unpacked: hexadecimal digits.
    pub name: String,
    /// Tasks start there.
    pub working_directory: bool,
}

/// A batch to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunBatch {
    /// Names the batch in the answer.
    pub batch: u64,
    /// Number of tasks.
    pub tasks: u32,
    /// Nesting level of joblib calls made inside the tasks.
    pub nesting_level: u32,
    /// 0: the worker is idle. Otherwise the batch was prefetched: the worker
    /// claims it by this number in its progress page before it begins, and
    /// skips it without an answer when that fails.
    pub claim: u64,
    /// The pickle's out-of-band buffers, in its order.
    pub buffers: Vec<BufferUse>,
    /// Objects that the tasks refer to by their index here.
    pub shared: Vec<SharedObject>,
    /// Where large results go: unlinked files in this directory; empty: memory.
    pub spill_directory: String,
    /// Tasks at the beginning whose results an earlier worker saved: they are
    /// not run again, and indices of tasks count them.
    pub first_task: u32,
}

/// Where the buffers of a result begin in its file: at multiples of this.
pub const BUFFER_ALIGNMENT: u64 = 64;

/// A blob that a worker is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedBlob {
    /// Names it in later messages; never reused by the agent.
    pub blob: u64,
    /// Its length.
    pub bytes: u64,
}

/// A blob in the place of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferUse {
    /// The blob, mapped before.
    pub blob: u64,
    /// What the tasks may do with it.
    pub access: Access,
}

/// What a task may do with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read it.
    Read,
    /// Read it, and write to a private copy that is made page by page.
    Copy,
    /// Read and write it, together with every other worker that has it.
    Write,
}

/// An object that is pickled apart, and unpickled afresh for each task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedObject {
    /// The blob that is its pickle, mapped before.
    pub pickle: u64,
    /// That pickle's out-of-band buffers, in its order.
    pub buffers: Vec<BufferUse>,
}

/// What a worker says to its agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Answer to `Setup`: ready for batches.
    Ready,
    /// Answer to `Setup`: it failed; the worker ends. Payload: the pickled
    /// exception, may be empty.
    SetupFailed(FailureReport),
    /// Answer to `Run`: every task returned. Payload: the pickled list of
    /// results. Lengths of the pickle's out-of-band buffers: when there are
    /// any, a descriptor travels along, of a file that has each at the next
    /// multiple of [`BUFFER_ALIGNMENT`] bytes.
    Done(BatchReport, Vec<u64>),
    /// Answer to `Run`: the batch failed. Payload: the pickled exception, may
    /// be empty.
    Failed(BatchReport, FailureReport),
    /// Before the answer to `Run`: the next tasks in order have returned, and
    /// their results are not in the answer any more. Payload: the pickled list
    /// of their results, without out-of-band buffers.
    Saved(SavedReport),
}

/// Results that would outlive their worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedReport {
    /// As in [`RunBatch`].
    pub batch: u64,
    /// How long each of the tasks ran, in nanoseconds: as many as there are
    /// results.
    pub task_nanoseconds: Vec<u64>,
}

/// When a batch's phases happened and what it used, by the worker's account.
/// Instants are `CLOCK_MONOTONIC` nanoseconds, 0 when not reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReport {
    /// As in [`RunBatch`].
    pub batch: u64,
    /// The whole payload had been received.
    pub received_at: u64,
    /// The tasks were unpickled.
    pub unpickled_at: u64,
    /// The last task had returned or raised.
    pub ran_at: u64,
    /// The results were pickled.
    pub pickled_at: u64,
    /// How long each task ran, in nanoseconds.
    pub task_nanoseconds: Vec<u64>,
    /// CPU time in user mode, nanoseconds.
    pub user_nanoseconds: u64,
    /// CPU time in kernel mode, nanoseconds.
    pub system_nanoseconds: u64,
    /// Highest resident memory ever, bytes.
    pub peak_memory_bytes: u64,
    /// Resident anonymous memory now, bytes.
    pub memory_bytes: u64,
    /// Modules of installed packages that this worker imported and did not
    /// report before, by their dotted names: at most [`MAX_IMPORTED`], each of
    /// at most [`MAX_MODULE_NAME_BYTES`].
    pub imported: Vec<String>,
    /// What tasks left behind.
    pub leftovers: Leftovers,
}

/// What the tasks of a batch left behind in their worker. Any of it, and the
/// worker must be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftovers {
    /// There are processes, living or not reaped.
    pub children: bool,
    /// Threads of Python's that run and are no daemons.
    pub threads: u32,
    /// Files that are open beyond those at the beginning, when they are too
    /// many.
    pub files: u32,
    /// What was changed and cannot be restored, each in a word or two, for
    /// example `resource limits`.
    pub changed: Vec<String>,
    /// An allocation failed: a `MemoryError` came out of a task, or memory is
    /// at its soft limit.
    pub out_of_memory: bool,
}

/// Most modules in one report.
pub const MAX_IMPORTED: usize = 512;

/// Longest name of a module in a report, in bytes.
pub const MAX_MODULE_NAME_BYTES: usize = 100;

/// Where in a batch a Python failure happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Setting up the worker (paths, variables).
    Setup,
    /// The user's initializer raised.
    Initializer,
    /// Unpickling the batch.
    Unpickle,
    /// A task's function raised.
    Run,
    /// A task called `sys.exit`; the code is in `exit_code`.
    Exit,
    /// Pickling the results.
    Pickle,
    /// The pickled results are over the agent's bound.
    TooLarge,
}

/// A failure that Python reported; a dead worker reports nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReport {
    /// Where it happened.
    pub phase: Phase,
    /// Index of the task in the batch, when one is to blame.
    pub task_index: Option<u32>,
    /// What happened: one sentence, lower-case, naming values.
    pub message: String,
    /// The argument of `sys.exit` as a code, for [`Phase::Exit`].
    pub exit_code: Option<i32>,
    /// The exception.
    pub exception: ExceptionReport,
}

/// A Python exception as text; its pickle travels as the frame's payload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionReport {
    /// Qualified type name.
    pub type_name: String,
    /// `str()` of it, bounded.
    pub text: String,
    /// Formatted traceback with causes, bounded.
    pub traceback: String,
}
