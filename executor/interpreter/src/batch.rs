//! Running one batch.

use clutch_worker_link::{BatchReport, Phase, Progress, RunBatch};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use rustix::process::Pid;

use crate::arguments::{Blobs, Call, SharedObjects};
use crate::baseline::Baseline;
use crate::clock::now;
use crate::failure::Failure;
use crate::identity::leave_if_forked;
use crate::line::TaskLine;
use crate::results::Pickled;
use crate::saving::Saving;
use crate::toolbox::Toolbox;
use crate::{pickling, results};

/// What became of a batch: the pickled results, or what failed.
pub(crate) type Outcome<'py> = Result<Pickled<'py>, Failure<'py>>;

/// A batch to run.
pub(crate) struct Batch<'a> {
    pub(crate) tools: &'a Toolbox,
    /// This process.
    pub(crate) worker: Pid,
    pub(crate) progress: &'a Progress,
    /// What the agent said about it.
    pub(crate) order: &'a RunBatch,
    /// Blobs that it may use.
    pub(crate) blobs: &'a Blobs,
    /// Where results go ahead of the others.
    pub(crate) line: &'a TaskLine,
}

/// What the tasks returned, without what is with the agent already.
struct Results<'py> {
    list: Bound<'py, PyList>,
    /// Index of the task that returned the first.
    first_task: usize,
    /// Bytes of the pickles that are with the agent.
    saved_bytes: u64,
}

impl Batch<'_> {
    /// Runs the pickled batch, entering into the report when its phases ended.
    pub(crate) fn run<'py>(
        &self,
        py: Python<'py>,
        payload: PyResult<Bound<'py, PyBytes>>,
        baseline: Option<&mut Baseline>,
        report: &mut BatchReport,
    ) -> Outcome<'py> {
        let loaded = payload.and_then(|payload| self.load(payload));
        let (tasks, shared) = loaded
            .map_err(|error| Failure::raised(py, self.tools, Phase::Unpickle, None, &error))?;
        if let Some(baseline) = baseline {
            // Without it, the old one is in force.
            baseline.unpickled(py).ok();
        }
        report.unpickled_at = now();
        let results = self.call_nested(&tasks, shared.as_ref(), report);
        self.progress.idle();
        report.ran_at = now();
        let results = results?;
        drop((tasks, shared));
        let pickle = self.pickle(&results);
        report.pickled_at = now();
        pickle
    }

    /// Unpickles the tasks, and prepares what they share.
    fn load<'py>(
        &self,
        payload: Bound<'py, PyBytes>,
    ) -> PyResult<(Bound<'py, PyList>, Option<SharedObjects<'py>>)> {
        let py = payload.py();
        let (order, arguments) = (self.order, &self.tools.arguments);
        let shared = arguments.shared(py, &order.shared, self.blobs)?;
        let tasks = if order.buffers.is_empty() && shared.is_none() {
            pickling::loads(self.tools, payload)?
        } else {
            arguments.load(payload, &order.buffers, self.blobs)?
        };
        Ok((tasks.cast_into()?, shared))
    }

    /// Calls the tasks with joblib's nested calls directed.
    fn call_nested<'py>(
        &self,
        tasks: &Bound<'py, PyList>,
        shared: Option<&SharedObjects<'py>>,
        report: &mut BatchReport,
    ) -> Result<Results<'py>, Failure<'py>> {
        let py = tasks.py();
        let failed = |error: PyErr| Failure::raised(py, self.tools, Phase::Run, None, &error);
        let Some(nested) = &self.tools.nested else { return self.call_all(tasks, shared, report) };
        let choice = nested.enter(py, self.order.nesting_level).map_err(failed)?;
        let results = self.call_all(tasks, shared, report);
        // A task's own failure says more than one of giving back.
        choice.leave().map_err(failed).and(results)
    }

    fn call_all<'py>(
        &self,
        tasks: &Bound<'py, PyList>,
        shared: Option<&SharedObjects<'py>>,
        report: &mut BatchReport,
    ) -> Result<Results<'py>, Failure<'py>> {
        let py = tasks.py();
        let mut results = PyList::empty(py);
        let mut saving = Saving::since(report.unpickled_at);
        let first_task = self.order.first_task as usize;
        let count = tasks.len();
        report.task_nanoseconds.reserve(count.saturating_sub(first_task));
        for index in first_task..count {
            let task = self.prepare(tasks, index, shared)?;
            let begin = now();
            self.progress.task_started(as_u32(index), begin);
            let result = call(task).and_then(|result| results.append(result));
            leave_if_forked(py, self.worker);
            let end = now();
            report.task_nanoseconds.push(end.saturating_sub(begin));
            if let Err(error) = result {
                let (phase, index) = (Phase::Run, Some(as_u32(index)));
                return Err(Failure::raised(py, self.tools, phase, index, &error));
            }
            if saving.is_due(end) && index + 1 < count {
                self.progress.idle();
                results = saving.save(self.tools, self.line, results, report);
            }
        }
        let first_task = count - results.len();
        Ok(Results { list: results, first_task, saved_bytes: saving.saved_bytes() })
    }

    /// Takes a task out of the batch, with objects of its own where tasks
    /// share them. Making these is unpickling: no task's time.
    fn prepare<'py>(
        &self,
        tasks: &Bound<'py, PyList>,
        index: usize,
        shared: Option<&SharedObjects<'py>>,
    ) -> Result<Call<'py>, Failure<'py>> {
        let task = take(tasks, index);
        let (phase, task) = match shared {
            None => (Phase::Run, task),
            Some(shared) => {
                self.progress.idle();
                (Phase::Unpickle, task.and_then(|task| shared.resolve(task)))
            }
        };
        let index = Some(as_u32(index));
        task.map_err(|error| Failure::raised(tasks.py(), self.tools, phase, index, &error))
    }

    fn pickle<'py>(&self, results: &Results<'py>) -> Outcome<'py> {
        let Results { list, first_task, saved_bytes } = results;
        let pickled = results::dump(self.tools, list, *first_task, &self.order.spill_directory)?;
        let length = pickled.pickle.as_bytes().len() as u64 + saved_bytes;
        let most = self.line.max_payload_bytes();
        if length <= most {
            return Ok(pickled);
        }
        // Sending it would end the line, and the worker with it.
        let message =
            format!("the pickled results take {length} bytes; `max-batch-bytes` allows {most}");
        Err(Failure::told(Phase::TooLarge, message))
    }
}

/// Takes a task out of the list, so that nothing else keeps what it is given.
fn take<'py>(tasks: &Bound<'py, PyList>, index: usize) -> PyResult<Call<'py>> {
    let task = tasks.get_item(index)?;
    tasks.set_item(index, tasks.py().None())?;
    task.extract()
}

/// Calls a task, and lets go of its function and arguments at once.
fn call((function, arguments, keywords): Call<'_>) -> PyResult<Bound<'_, PyAny>> {
    let arguments = match arguments.cast_into::<PyTuple>() {
        Ok(arguments) => arguments,
        Err(other) => {
            let tuple = function.py().get_type::<PyTuple>();
            tuple.call1((other.into_inner(),))?.cast_into::<PyTuple>()?
        }
    };
    if keywords.is_none() {
        return function.call(arguments, None);
    }
    function.call(arguments, Some(&keywords.cast_into::<PyDict>()?))
}

fn as_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
