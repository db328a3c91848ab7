//! Running one batch.

use clutch_worker_link::{BatchReport, FailureReport, Phase, Progress};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use rustix::process::Pid;

use crate::clock::now;
use crate::failure::Failure;
use crate::identity::leave_if_forked;
use crate::pickling;
use crate::toolbox::Toolbox;

/// What became of a batch: the pickled results, or what failed.
pub(crate) type Outcome<'py> = Result<Bound<'py, PyBytes>, Failure<'py>>;

/// A batch to run.
pub(crate) struct Batch<'a> {
    pub(crate) tools: &'a Toolbox,
    /// This process.
    pub(crate) worker: Pid,
    pub(crate) progress: &'a Progress,
    /// See [`clutch_worker_link::RunBatch`].
    pub(crate) nesting_level: u32,
    /// Most bytes that the results may have.
    pub(crate) max_result_bytes: u64,
}

impl Batch<'_> {
    /// Runs the pickled batch, entering into the report when its phases ended.
    pub(crate) fn run<'py>(
        &self,
        py: Python<'py>,
        payload: PyResult<Bound<'py, PyBytes>>,
        report: &mut BatchReport,
    ) -> Outcome<'py> {
        let tasks = payload
            .and_then(|payload| pickling::loads(self.tools, payload))
            .and_then(|tasks| Ok(tasks.cast_into::<PyList>()?))
            .map_err(|error| Failure::raised(py, self.tools, Phase::Unpickle, None, &error))?;
        report.unpickled_at = now();
        let results = self.call_nested(&tasks, report);
        self.progress.idle();
        report.ran_at = now();
        let results = results?;
        drop(tasks);
        let pickle = self.pickle(&results);
        report.pickled_at = now();
        pickle
    }

    /// Calls the tasks with joblib's nested calls directed.
    fn call_nested<'py>(
        &self,
        tasks: &Bound<'py, PyList>,
        report: &mut BatchReport,
    ) -> Result<Bound<'py, PyList>, Failure<'py>> {
        let py = tasks.py();
        let failed = |error: PyErr| Failure::raised(py, self.tools, Phase::Run, None, &error);
        let Some(nested) = &self.tools.nested else { return self.call_all(tasks, report) };
        let choice = nested.enter(py, self.nesting_level).map_err(failed)?;
        let results = self.call_all(tasks, report);
        // A task's own failure says more than one of giving back.
        choice.leave().map_err(failed).and(results)
    }

    fn call_all<'py>(
        &self,
        tasks: &Bound<'py, PyList>,
        report: &mut BatchReport,
    ) -> Result<Bound<'py, PyList>, Failure<'py>> {
        let py = tasks.py();
        let results = PyList::empty(py);
        report.task_nanoseconds.reserve(tasks.len());
        for index in 0..tasks.len() {
            let begin = now();
            self.progress.task_started(as_u32(index), begin);
            let result = call(tasks, index).and_then(|result| results.append(result));
            leave_if_forked(py, self.worker);
            report.task_nanoseconds.push(now().saturating_sub(begin));
            if let Err(error) = result {
                let (phase, index) = (Phase::Run, Some(as_u32(index)));
                return Err(Failure::raised(py, self.tools, phase, index, &error));
            }
        }
        Ok(results)
    }

    fn pickle<'py>(&self, results: &Bound<'py, PyList>) -> Outcome<'py> {
        let pickle = pickling::dumps(self.tools, results)
            .map_err(|error| Failure::unpicklable(self.tools, results, &error))?;
        let length = pickle.as_bytes().len() as u64;
        if length <= self.max_result_bytes {
            return Ok(pickle);
        }
        // Sending it would end the line, and the worker with it.
        let message = format!(
            "the pickled results take {length} bytes; `max-batch-bytes` allows {}",
            self.max_result_bytes
        );
        let exception = clutch_worker_link::ExceptionReport::default();
        let phase = Phase::TooLarge;
        let report = FailureReport { phase, task_index: None, message, exit_code: None, exception };
        Err(Failure { report: Box::new(report), pickle: None })
    }
}

/// Calls a task, and lets go of its function and arguments at once.
fn call<'py>(tasks: &Bound<'py, PyList>, index: usize) -> PyResult<Bound<'py, PyAny>> {
    let task = tasks.get_item(index)?;
    tasks.set_item(index, tasks.py().None())?;
    let (function, arguments, keywords) =
        task.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
    drop(task);
    let arguments = match arguments.cast_into::<PyTuple>() {
        Ok(arguments) => arguments,
        Err(other) => {
            let tuple = tasks.py().get_type::<PyTuple>();
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
