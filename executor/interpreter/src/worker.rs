//! A worker's life: setup, batches, leaving.

use clutch_worker_link::{BatchReport, FromWorker, LinkError, RunBatch, ToWorker};
use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::prelude::*;

use crate::batch::Batch;
use crate::clock::now;
use crate::identity::Seat;
use crate::imports::Imports;
use crate::line::TaskLine;
use crate::toolbox::Toolbox;
use crate::usage::Meter;
use crate::{output, setup};

/// Does what the agent says until it says to leave, or is gone. Returning runs
/// the interpreter's exit handlers.
pub(crate) fn work(
    py: Python<'_>,
    seat: Seat,
    tools: &Toolbox,
    mut imports: Imports,
    max_payload_bytes: u64,
) -> PyResult<()> {
    let Seat { line, progress, pid } = seat;
    let mut line = TaskLine::new(line, max_payload_bytes);
    let mut meter = Meter::default();
    loop {
        let order = match line.receive(py) {
            Ok(order) => order,
            Err(LinkError::Closed) => return Ok(()),
            Err(error) => return Err(broken(&error)),
        };
        match order.message {
            ToWorker::Setup { variables, threads } => {
                let done = setup::set_up(py, tools, variables, threads, order.payload);
                output::flush(py);
                let Err(failure) = done else {
                    answer(py, &line, &FromWorker::Ready, &[])?;
                    continue;
                };
                let pickle = failure.pickle.as_ref().map_or(&[][..], |pickle| pickle.as_bytes());
                answer(py, &line, &FromWorker::SetupFailed(*failure.report), pickle)?;
                return Err(PySystemExit::new_err(1));
            }
            ToWorker::Run(RunBatch { batch, nesting_level, .. }) => {
                let mut report = BatchReport { batch, received_at: now(), ..Default::default() };
                meter.start();
                let max_result_bytes = line.max_payload_bytes();
                let batch = Batch {
                    tools,
                    worker: pid,
                    progress: &progress,
                    nesting_level,
                    max_result_bytes,
                };
                let outcome = batch.run(py, order.payload, &mut report);
                // What a task printed is on its way before its result is.
                output::flush(py);
                meter.finish(&mut report);
                report.imported = imports.news(py);
                match outcome {
                    Ok(pickle) => {
                        answer(py, &line, &FromWorker::Done(report, Vec::new()), pickle.as_bytes())?
                    }
                    Err(failure) => {
                        let pickle = failure.pickle.as_ref();
                        let pickle = pickle.map_or(&[][..], |pickle| pickle.as_bytes());
                        answer(py, &line, &FromWorker::Failed(report, *failure.report), pickle)?;
                    }
                }
            }
            ToWorker::Map(_) | ToWorker::Forget(_) => {}
            ToWorker::Retire => return Ok(()),
        }
    }
}

fn answer(py: Python<'_>, line: &TaskLine, message: &FromWorker, payload: &[u8]) -> PyResult<()> {
    line.send(py, message, payload).map_err(|error| broken(&error))
}

fn broken(error: &LinkError) -> PyErr {
    PyRuntimeError::new_err(format!("task line: {error}: {error:?}"))
}
