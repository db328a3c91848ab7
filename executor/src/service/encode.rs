//! From the rooms to the wire.

use bytes::Bytes;
use clutch_protocol::CHUNK_BYTES;
use clutch_protocol::v1::{self, agent_frame::Body, batch_ended, blob_state};

use crate::failure::{Failure, Fault, Kind};
use crate::identifiers::Pid;
use crate::pool::{BatchOutcome, Output, OutputStream, Timings, Usage};
use crate::session::Offered;

/// The frames of one outcome: itself, then the rest of its payload.
pub(super) fn outcome(outcome: BatchOutcome) -> impl Iterator<Item = v1::AgentFrame> {
    let batch_id = outcome.batch.batch;
    let mut rest = Bytes::new();
    let result = match outcome.result {
        Ok(mut payload) => {
            let payload_bytes = payload.len() as u64;
            rest = payload.split_off(payload.len().min(CHUNK_BYTES));
            batch_ended::Outcome::Value(v1::Value { payload, payload_bytes, ..Default::default() })
        }
        Err(failed) => batch_ended::Outcome::Failure(failure(failed)),
    };
    let ended = v1::BatchEnded {
        batch_id,
        outcome: Some(result),
        timings: Some(timings(outcome.timings)),
        usage: Some(usage(outcome.usage)),
        worker_pid: outcome.pid.map_or(0, |Pid(pid)| pid),
    };
    let parts = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let data = rest.split_to(rest.len().min(CHUNK_BYTES));
        Some(Body::PayloadPart(v1::PayloadPart { batch_id, data }))
    });
    std::iter::once(Body::BatchEnded(ended)).chain(parts).map(frame)
}

/// The frame of one piece of output.
pub(super) fn output(output: Output) -> v1::AgentFrame {
    let stream = match output.stream {
        OutputStream::Stdout => v1::OutputStream::Stdout,
        OutputStream::Stderr => v1::OutputStream::Stderr,
    };
    frame(Body::Output(v1::Output { pid: output.pid.0, stream: stream.into(), data: output.data }))
}

/// The frame that says what became of an offered blob.
pub(super) fn blob_state(blob_id: u64, offered: Offered) -> v1::AgentFrame {
    let state = match offered {
        Offered::Present => blob_state::State::Present(v1::BlobPresent {}),
        Offered::Missing => blob_state::State::Missing(v1::BlobMissing {}),
        Offered::Refused(why) => blob_state::State::Refused(failure(why)),
    };
    frame(Body::BlobState(v1::BlobState { blob_id, state: Some(state) }))
}

const fn frame(body: Body) -> v1::AgentFrame {
    v1::AgentFrame { body: Some(body) }
}

/// Bytes that a frame takes in an envelope, nearly.
pub(super) fn size(frame: &v1::AgentFrame) -> usize {
    const FRAMING: usize = 128;
    FRAMING
        + match &frame.body {
            Some(Body::BatchEnded(ended)) => match &ended.outcome {
                Some(batch_ended::Outcome::Value(value)) => value.payload.len(),
                Some(batch_ended::Outcome::Failure(failure)) => {
                    let exception = failure.exception.as_ref();
                    failure.stderr_tail.len()
                        + exception.map_or(0, |e| e.pickle.len() + e.text.len() + e.traceback.len())
                }
                None => 0,
            },
            Some(Body::PayloadPart(part)) => part.data.len(),
            Some(Body::Output(output)) => output.data.len(),
            Some(Body::Capacity(_) | Body::BlobState(_)) | None => 0,
        }
}

fn timings(timings: Timings) -> v1::Timings {
    v1::Timings {
        queued_at: timings.queued_at.nanoseconds(),
        assigned_at: timings.assigned_at.nanoseconds(),
        received_at: timings.received_at.nanoseconds(),
        unpickled_at: timings.unpickled_at.nanoseconds(),
        ran_at: timings.ran_at.nanoseconds(),
        pickled_at: timings.pickled_at.nanoseconds(),
        ended_at: timings.ended_at.nanoseconds(),
        task_nanoseconds: timings.task_nanoseconds,
    }
}

fn usage(usage: Usage) -> v1::Usage {
    let nanoseconds =
        |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    v1::Usage {
        user_nanoseconds: nanoseconds(usage.user),
        system_nanoseconds: nanoseconds(usage.system),
        peak_memory_bytes: usage.peak_memory_bytes,
    }
}

pub(super) fn failure(failure: Failure) -> v1::Failure {
    v1::Failure {
        kind: kind(failure.kind).into(),
        fault: fault(failure.kind.fault()).into(),
        message: failure.message,
        advice: failure.kind.advice().to_owned(),
        task_index: failure.task_index,
        signal: failure.signal,
        exit_code: failure.exit_code,
        stderr_tail: failure.stderr_tail,
        exception: failure.exception.map(|exception| v1::ExceptionInfo {
            pickle: exception.pickle,
            type_name: exception.type_name,
            text: exception.text,
            traceback: exception.traceback,
        }),
    }
}

/// The one table from the closed list to the wire.
pub(super) const fn kind(kind: Kind) -> v1::FailureKind {
    match kind {
        Kind::TaskRaised => v1::FailureKind::TaskRaised,
        Kind::TaskExited => v1::FailureKind::TaskExited,
        Kind::ArgumentUnreadable => v1::FailureKind::ArgumentUnreadable,
        Kind::ResultUnpicklable => v1::FailureKind::ResultUnpicklable,
        Kind::WorkerCrashed => v1::FailureKind::WorkerCrashed,
        Kind::TimeLimit => v1::FailureKind::TimeLimit,
        Kind::MemoryLimit => v1::FailureKind::MemoryLimit,
        Kind::Cancelled => v1::FailureKind::Cancelled,
        Kind::EnvironmentMismatch => v1::FailureKind::EnvironmentMismatch,
        Kind::ProtocolMismatch => v1::FailureKind::ProtocolMismatch,
        Kind::AgentDraining => v1::FailureKind::AgentDraining,
        Kind::WorkerStartFailed => v1::FailureKind::WorkerStartFailed,
        Kind::InitializerFailed => v1::FailureKind::InitializerFailed,
        Kind::QuotaExceeded => v1::FailureKind::QuotaExceeded,
        Kind::Internal => v1::FailureKind::Internal,
    }
}

pub(super) const fn fault(fault: Fault) -> v1::Fault {
    match fault {
        Fault::Task => v1::Fault::Task,
        Fault::Driver => v1::Fault::Driver,
        Fault::Agent => v1::Fault::Agent,
        Fault::Nobody => v1::Fault::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::identifiers::{BatchId, SessionId};

    #[test]
    fn every_kind_of_the_closed_list_has_a_number_of_its_own() {
        let numbers: HashSet<i32> = Kind::ALL.iter().map(|k| kind(*k).into()).collect();
        assert_eq!(numbers.len(), Kind::ALL.len());
        let mut on_the_wire = 0..;
        let last = on_the_wire.find(|n| v1::FailureKind::try_from(*n).is_err()).unwrap();
        assert_eq!(numbers, (1..last).collect(), "all but UNSPECIFIED");
    }

    #[test]
    fn a_long_payload_goes_in_parts_that_add_up() {
        let payload: Vec<u8> = (0..=255).cycle().take(CHUNK_BYTES * 2 + 5).collect();
        let batch = BatchId { session: SessionId(1), batch: 7 };
        let mut ended = BatchOutcome {
            batch,
            result: Ok(payload.clone().into()),
            timings: Timings::default(),
            usage: Usage::default(),
            pid: None,
        };
        let mut bytes = Vec::new();
        let mut frames = 0;
        for frame in outcome(ended) {
            frames += 1;
            match frame.body {
                Some(Body::BatchEnded(end)) => match end.outcome {
                    Some(batch_ended::Outcome::Value(value)) => {
                        assert_eq!(value.payload_bytes, payload.len() as u64);
                        bytes.extend_from_slice(&value.payload);
                    }
                    other => panic!("{other:?}"),
                },
                Some(Body::PayloadPart(part)) => bytes.extend_from_slice(&part.data),
                other => panic!("{other:?}"),
            }
        }
        assert!(bytes == payload && frames == 3, "{frames} frames");
        ended = BatchOutcome {
            batch,
            result: Ok(Bytes::from_static(b"x")),
            timings: Timings::default(),
            usage: Usage::default(),
            pid: None,
        };
        assert_eq!(outcome(ended).count(), 1);
    }
}
