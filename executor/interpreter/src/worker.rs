//! A worker's life: setup, batches, leaving.

use std::os::fd::AsFd;

use clutch_worker_link::{BatchReport, FromWorker, LinkError, ToWorker};
use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::prelude::*;

use crate::arguments::Blobs;
use crate::baseline::{Baseline, Look};
use crate::batch::{Batch, Outcome};
use crate::clock::now;
use crate::identity::Seat;
use crate::imports::Imports;
use crate::line::TaskLine;
use crate::results::{Buffers, Pickled};
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
    let Seat { line, progress, stacks, pid } = seat;
    let mut line = TaskLine::new(line, max_payload_bytes);
    let mut meter = Meter::default();
    let mut blobs = Blobs::default();
    let mut baseline: Option<Baseline> = None;
    loop {
        let order = match line.receive(py) {
            Ok(order) => order,
            Err(LinkError::Closed) => return Ok(()),
            Err(error) => return Err(broken(&error)),
        };
        match order.message {
            ToWorker::Setup { variables, threads, code } => {
                let said = setup::Said { variables, threads, code };
                let done = setup::set_up(py, tools, said, &mut blobs, order.payload);
                output::flush(py);
                let Err(failure) = done else {
                    answer(py, &line, &FromWorker::Ready, &[])?;
                    baseline = Some(Baseline::take(py, stacks)?);
                    continue;
                };
                let pickle = failure.pickle.as_ref().map_or(&[][..], |pickle| pickle.as_bytes());
                answer(py, &line, &FromWorker::SetupFailed(*failure.report), pickle)?;
                return Err(PySystemExit::new_err(1));
            }
            // Taken back: another worker runs it.
            ToWorker::Run(run) if run.claim != 0 && !progress.claim(run.claim) => meter.skip(),
            ToWorker::Run(run) => {
                if let Some(baseline) = &mut baseline {
                    baseline.begin(py);
                }
                let mut report =
                    BatchReport { batch: run.batch, received_at: now(), ..Default::default() };
                progress.batch_started(meter.start(order.at_once));
                let batch = Batch {
                    tools,
                    worker: pid,
                    progress: &progress,
                    order: &run,
                    blobs: &blobs,
                    line: &line,
                };
                let outcome = batch.run(py, order.payload, baseline.as_mut(), &mut report);
                // What a task printed is on its way before its result is.
                output::flush(py);
                let seldom = meter.finish(&mut report);
                let look = Look::after(now().saturating_sub(report.received_at), seldom);
                report.imported = imports.news(py);
                if let Some(baseline) = &mut baseline {
                    report.leftovers = baseline.leftovers(py, blobs.count(), look);
                }
                report.leftovers.out_of_memory =
                    outcome.as_ref().is_err_and(|failure| failure.out_of_memory);
                answer_batch(py, &line, report, outcome)?;
                // Nobody waits for this, but perhaps for the next batch.
                if let Some(baseline) = &mut baseline {
                    baseline.restore(py, look);
                }
            }
            ToWorker::Map(announced) => {
                blobs.add(py, &tools.arguments, &announced, order.descriptors)?;
            }
            ToWorker::Forget(forgotten) => blobs.forget(&forgotten),
            ToWorker::Retire => return Ok(()),
        }
    }
}

fn answer_batch(
    py: Python<'_>,
    line: &TaskLine,
    report: BatchReport,
    outcome: Outcome<'_>,
) -> PyResult<()> {
    let failure = match outcome {
        Ok(Pickled { pickle, buffers: None }) => {
            let message = FromWorker::Done(report, Vec::new());
            return answer(py, line, &message, pickle.as_bytes());
        }
        Ok(Pickled { pickle, buffers: Some(Buffers { file, lengths }) }) => {
            let message = FromWorker::Done(report, lengths);
            let sent = line.send(py, &message, pickle.as_bytes(), Some(file.as_fd()));
            return sent.map_err(|error| broken(&error));
        }
        Err(failure) => failure,
    };
    let pickle = failure.pickle.as_ref().map_or(&[][..], |pickle| pickle.as_bytes());
    answer(py, line, &FromWorker::Failed(report, *failure.report), pickle)
}

fn answer(py: Python<'_>, line: &TaskLine, message: &FromWorker, payload: &[u8]) -> PyResult<()> {
    line.send(py, message, payload, None).map_err(|error| broken(&error))
}

fn broken(error: &LinkError) -> PyErr {
    PyRuntimeError::new_err(format!("task line: {error}: {error:?}"))
}
