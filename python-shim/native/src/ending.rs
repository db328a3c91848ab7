//! Endings of batches as Python handles them: tuples that begin with the batch
//! and a word.

use std::collections::VecDeque;

use clutch_client::{BlobError, Buffers, Ended, Ending, Outcome, Value};
use clutch_protocol::BUFFER_ALIGNMENT;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyTuple};

use crate::errors;
use crate::mapping::Mapping;
use crate::row::seconds;

/// All the endings, in order.
pub(crate) fn to_python(
    py: Python<'_>,
    endings: VecDeque<Ended<Py<PyAny>>>,
) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for Ended { token, ending } in endings {
        list.append(match ending {
            Ending::Outcome(outcome) => told(py, token, *outcome)?,
            Ending::Withdrawn => (token, "WITHDRAWN").into_pyobject(py)?,
            Ending::Lost => (token, "LOST").into_pyobject(py)?,
            Ending::Posted => (token, "POSTED").into_pyobject(py)?,
        })?;
    }
    Ok(list)
}

fn told(py: Python<'_>, token: Py<PyAny>, outcome: Outcome) -> PyResult<Bound<'_, PyTuple>> {
    let ran = seconds(outcome.ran_nanoseconds);
    let pid = outcome.worker_pid;
    match outcome.result {
        Err(failure) => (
            token,
            "FAILED",
            ran,
            errors::failure(py, &failure, pid, outcome.losses, &outcome.earlier)?,
        )
            .into_pyobject(py),
        Ok(value) => match results(py, value) {
            Ok(Some((pickles, buffers))) => {
                (token, "OK", ran, pickles, buffers, pid).into_pyobject(py)
            }
            Ok(None) => (token, "LOST").into_pyobject(py),
            Err(error) => (token, "UNREADABLE", ran, error.to_string(), pid).into_pyobject(py),
        },
    }
}

/// The pickles, and the out-of-band buffers of the last one: `None`, a list of
/// bytearrays, or a mapping with offsets and lengths. Nothing when they went
/// with the agent.
fn results(
    py: Python<'_>,
    value: Value,
) -> PyResult<Option<(Bound<'_, PyList>, Bound<'_, PyAny>)>> {
    let Value { pieces, pickle_bytes, buffers } = value;
    let mut rest = Pieces { pieces: pieces.into(), taken: 0 };
    let pickles = PyList::empty(py);
    for length in pickle_bytes {
        let length = usize::try_from(length)?;
        pickles.append(match rest.take_whole(length) {
            Some(bytes) => PyBytes::new(py, &bytes),
            None => PyBytes::new_with(py, length, |target| {
                rest.fill(target);
                Ok(())
            })?,
        })?;
    }
    let buffers = match buffers {
        Buffers::Inline(lengths) if lengths.is_empty() => py.None().into_bound(py),
        Buffers::Inline(lengths) => {
            let list = PyList::empty(py);
            for length in lengths {
                list.append(PyByteArray::new_with(py, usize::try_from(length)?, |target| {
                    rest.fill(target);
                    Ok(())
                })?)?;
            }
            list.into_any()
        }
        Buffers::Blob { blob, lengths } => {
            let (places, total) = layout(&lengths);
            let mapping = py.detach(|| Ok::<_, BlobError>(Mapping::new(blob.fetch()?, total)?));
            let mapping = match mapping {
                Ok(mapping) => mapping,
                Err(BlobError::Lost(_)) => return Ok(None),
                Err(error @ (BlobError::Refused(_) | BlobError::Io(_))) => {
                    return Err(errors::OpenFailedError::new_err(error.to_string()));
                }
            };
            (Py::new(py, mapping)?, places).into_pyobject(py)?.into_any()
        }
    };
    Ok(Some((pickles, buffers)))
}

/// Where each buffer is in a result's file, and how long the file is.
fn layout(lengths: &[u64]) -> (Vec<(u64, u64)>, u64) {
    let mut end = 0_u64;
    let places = lengths.iter().map(|length| {
        let begin = end.next_multiple_of(BUFFER_ALIGNMENT);
        end = begin.saturating_add(*length);
        (begin, *length)
    });
    (places.collect(), end)
}

/// A payload in pieces, read from its beginning.
struct Pieces {
    pieces: VecDeque<bytes::Bytes>,
    /// Bytes of the first piece that are read already.
    taken: usize,
}

impl Pieces {
    /// Takes what comes next, when that many bytes are one piece.
    fn take_whole(&mut self, length: usize) -> Option<bytes::Bytes> {
        let fits = |piece: &bytes::Bytes| piece.len() == length;
        if self.taken == 0 && self.pieces.front().is_some_and(fits) {
            return self.pieces.pop_front();
        }
        None
    }

    /// Fills the target with what comes next.
    fn fill(&mut self, mut target: &mut [u8]) {
        while !target.is_empty() {
            let Some(first) = self.pieces.front() else { return };
            let ready = &first[self.taken..];
            let step = ready.len().min(target.len());
            let (now, later) = target.split_at_mut(step);
            now.copy_from_slice(&ready[..step]);
            target = later;
            self.taken += step;
            if self.taken == first.len() {
                self.pieces.pop_front();
                self.taken = 0;
            }
        }
    }
}
