//! From the rooms to the wire.

use std::time::Duration;

use bytes::Bytes;
use clutch_protocol::CHUNK_BYTES;
use clutch_protocol::v1::{self, agent_frame::Body, batch_ended, blob_state};

use crate::blobs::Buffers;
use crate::failure::{Breach, Failure, Fault, Kind};
use crate::identifiers::Pid;
use crate::limits::{Enforcement, Mechanism};
use crate::pool::{Attempt, BatchOutcome, Note, Output, OutputStream, Timings, Usage, Value};
use crate::session::{Offered, SessionBlobs};

// A worker's file becomes a result's blob as it is.
const _: () = assert!(clutch_worker_link::BUFFER_ALIGNMENT == clutch_protocol::BUFFER_ALIGNMENT);

/// The frames of one outcome: itself, then the rest of its payload. The
/// payload goes on with the buffers that come back, if there are any: those
/// that the driver cannot fetch by a data line.
pub(super) fn outcome(
    outcome: BatchOutcome,
    blobs: &SessionBlobs,
) -> (impl Iterator<Item = v1::AgentFrame> + use<>, Option<Buffers>) {
    let batch_id = outcome.batch.batch;
    let nothing = Vec::new().into_iter().chain(None);
    let mut parts = Parts { piece: Bytes::new(), pieces: nothing };
    let mut follow = None;
    let result = match outcome.result {
        Ok(Value { payload, buffers }) => {
            let saved = outcome.saved.pickles;
            let mut value = v1::Value {
                saved_bytes: saved.iter().map(|pickle| pickle.len() as u64).collect(),
                payload_bytes: payload.len() as u64,
                ..Default::default()
            };
            value.payload_bytes += value.saved_bytes.iter().sum::<u64>();
            parts.pieces = saved.into_iter().chain(Some(payload));
            value.payload = parts.next().unwrap_or_default();
            if let Some(buffers) = buffers {
                value.buffer_bytes.clone_from(&buffers.lengths);
                if blobs.has_line() {
                    value.blob_id = blobs.keep_result(buffers.blob);
                } else {
                    value.payload_bytes += buffers.bytes();
                    follow = Some(buffers);
                }
            }
            batch_ended::Outcome::Value(value)
        }
        Err(failed) => batch_ended::Outcome::Failure(failure(failed)),
    };
    let ended = v1::BatchEnded {
        batch_id,
        outcome: Some(result),
        timings: Some(timings(outcome.timings)),
        usage: Some(usage(outcome.usage)),
        worker_pid: outcome.pid.map_or(0, |Pid(pid)| pid),
        earlier_attempts: outcome.earlier.into_iter().map(attempt).collect(),
        notes: outcome.notes.into_iter().map(note).collect(),
    };
    let parts = parts.map(move |part| payload_part(batch_id, part));
    (std::iter::once(frame(Body::BatchEnded(ended))).chain(parts), follow)
}

/// A payload of several pieces, in parts that fit into a frame. Nothing is copied,
/// so a part is as short as its piece.
struct Parts<Pieces> {
    piece: Bytes,
    pieces: Pieces,
}

impl<Pieces: Iterator<Item = Bytes>> Iterator for Parts<Pieces> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.piece.is_empty() {
            self.piece = self.pieces.next()?;
        }
        Some(self.piece.split_to(self.piece.len().min(CHUNK_BYTES)))
    }
}

/// The frame with more bytes of an outcome.
pub(super) const fn payload_part(batch_id: u64, data: Bytes) -> v1::AgentFrame {
    frame(Body::PayloadPart(v1::PayloadPart { batch_id, data }))
}

/// The frame of one piece of output.
pub(super) fn output(output: Output) -> v1::AgentFrame {
    let stream = match output.stream {
        OutputStream::Stdout => v1::OutputStream::Stdout,
        OutputStream::Stderr => v1::OutputStream::Stderr,
    };
    frame(Body::Output(v1::Output { pid: output.pid.0, stream: stream.into(), data: output.data }))
}

/// The frame that says how many batches the agent runs at once.
pub(super) fn capacity(slots: u32) -> v1::AgentFrame {
    frame(Body::Capacity(v1::Capacity { slots }))
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
        attempt: failure.attempt,
        breach: failure.breach.map(|Breach { limit, peak }| v1::Breach { limit, peak }),
        wall_nanoseconds: failure.wall.map_or(0, nanoseconds),
        cpu_nanoseconds: failure.cpu.map_or(0, nanoseconds),
    }
}

/// How limits are enforced here.
pub(super) fn enforcement(enforcement: &Enforcement) -> v1::Enforcement {
    let mechanism = |mechanism: Mechanism| -> i32 {
        match mechanism {
            Mechanism::CgroupV2 => v1::Mechanism::CgroupV2,
            Mechanism::CgroupV1 => v1::Mechanism::CgroupV1,
            Mechanism::Sampling => v1::Mechanism::Sampling,
            Mechanism::Affinity => v1::Mechanism::Affinity,
        }
        .into()
    };
    v1::Enforcement {
        memory: mechanism(enforcement.memory),
        cpus: mechanism(enforcement.cpus),
        processes: mechanism(enforcement.processes),
        kill: mechanism(enforcement.kill),
        cannot: enforcement.cannot.clone(),
        memory_ceiling_bytes: enforcement.memory_ceiling_bytes.unwrap_or(0),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn attempt(attempt: Attempt) -> v1::Attempt {
    v1::Attempt {
        kind: kind(attempt.kind).into(),
        message: attempt.message,
        worker_pid: attempt.pid.map_or(0, |Pid(pid)| pid),
        ended_at: attempt.ended_at.nanoseconds(),
    }
}

fn note(note: Note) -> v1::Note {
    let (kind, count) = match note {
        Note::ChildrenKilled(count) => (v1::NoteKind::ChildrenKilled, count),
        Note::ThreadsLeft(count) => (v1::NoteKind::ThreadsLeft, count),
        Note::FilesLeft(count) => (v1::NoteKind::FilesLeft, count),
        Note::ChildrenOutOfMemory(count) => (v1::NoteKind::ChildrenOutOfMemory, count),
        Note::CpuThrottled(milliseconds) => (v1::NoteKind::CpuThrottled, milliseconds),
        Note::StateChanged(count) => (v1::NoteKind::StateChanged, count),
    };
    v1::Note { kind: kind.into(), count }
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
        Kind::WorkerKilled => v1::FailureKind::WorkerKilled,
        Kind::MemoryPressure => v1::FailureKind::MemoryPressure,
        Kind::CpuTimeLimit => v1::FailureKind::CpuTimeLimit,
        Kind::ProcessLimit => v1::FailureKind::ProcessLimit,
        Kind::ScratchLimit => v1::FailureKind::ScratchLimit,
        Kind::PoisonousBatch => v1::FailureKind::PoisonousBatch,
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
    use std::sync::Arc;

    use super::*;
    use crate::blobs::{Piece, Store};
    use crate::identifiers::{BatchId, SessionId};
    use crate::pool::Saved;
    use crate::settings::BlobOptions;

    #[test]
    fn every_kind_of_the_closed_list_has_a_number_of_its_own() {
        let numbers: HashSet<i32> = Kind::ALL.iter().map(|k| kind(*k).into()).collect();
        assert_eq!(numbers.len(), Kind::ALL.len());
        let mut on_the_wire = 0..;
        let last = on_the_wire.find(|n| v1::FailureKind::try_from(*n).is_err()).unwrap();
        assert_eq!(numbers, (1..last).collect(), "all but UNSPECIFIED");
    }

    fn store() -> Store {
        Store::new(BlobOptions {
            memory_bytes: 1 << 20,
            spill_directory: std::env::temp_dir(),
            spill_bytes: 0,
        })
    }

    fn ended(payload: Bytes, buffers: Option<Buffers>) -> BatchOutcome {
        BatchOutcome {
            batch: BatchId { session: SessionId(1), batch: 7 },
            result: Ok(Value { payload, buffers }),
            timings: Timings::default(),
            usage: Usage::default(),
            pid: None,
            saved: Saved::default(),
            notes: Vec::new(),
            earlier: Vec::new(),
        }
    }

    fn value(frame: v1::AgentFrame) -> v1::Value {
        let Some(Body::BatchEnded(end)) = frame.body else { panic!("{frame:?}") };
        let Some(batch_ended::Outcome::Value(value)) = end.outcome else { panic!("{end:?}") };
        value
    }

    #[test]
    fn a_long_payload_goes_in_parts_that_add_up() {
        let session = SessionBlobs::new(store());
        let payload: Vec<u8> = (0..=255).cycle().take(CHUNK_BYTES * 2 + 5).collect();
        let (mut frames, follow) = outcome(ended(payload.clone().into(), None), &session);
        assert!(follow.is_none());
        let first = value(frames.next().unwrap());
        assert_eq!(first.payload_bytes, payload.len() as u64);
        let mut bytes = first.payload.to_vec();
        for frame in frames.by_ref().take(2) {
            let Some(Body::PayloadPart(part)) = frame.body else { panic!("{frame:?}") };
            bytes.extend_from_slice(&part.data);
        }
        assert!(bytes == payload && frames.next().is_none());
        assert_eq!(outcome(ended(Bytes::from_static(b"x"), None), &session).0.count(), 1);
    }

    #[test]
    fn saved_results_come_first_and_their_lengths_are_told() {
        let session = SessionBlobs::new(store());
        let long = Bytes::from(vec![7; CHUNK_BYTES + 1]);
        let pickles = vec![Bytes::from_static(b"ab"), long.clone()];
        let saved = Saved { pickles, task_nanoseconds: vec![1, 2] };
        let outcome = BatchOutcome { saved, ..ended(Bytes::from_static(b"z"), None) };
        let (mut frames, _) = super::outcome(outcome, &session);
        let first = value(frames.next().unwrap());
        assert_eq!(first.saved_bytes, [2, long.len() as u64]);
        assert_eq!(first.payload_bytes, 2 + long.len() as u64 + 1);
        let parts = frames.map(|frame| match frame.body {
            Some(Body::PayloadPart(part)) => part.data,
            other => panic!("{other:?}"),
        });
        let payload = std::iter::once(first.payload).chain(parts).collect::<Vec<_>>();
        assert!(payload.iter().all(|part| !part.is_empty() && part.len() <= CHUNK_BYTES));
        assert!(payload.concat() == [&b"ab"[..], &long, b"z"].concat());
    }

    #[tokio::test]
    async fn buffers_are_left_for_the_data_line_and_follow_where_there_is_none() {
        let store = store();
        let blobs = Arc::new(SessionBlobs::new(store.clone()));
        let filling = store.allocate(67, false).await.unwrap();
        let buffers = Buffers { blob: filling.commit(None).unwrap(), lengths: vec![1, 3] };
        let payload = Bytes::from_static(b"xy");
        let (mut frames, follow) = outcome(ended(payload.clone(), Some(buffers.clone())), &blobs);
        let sent = value(frames.next().unwrap());
        assert_eq!((sent.payload_bytes, sent.blob_id), (6, 0));
        assert_eq!(sent.buffer_bytes, [1, 3]);
        let steps: Vec<_> = follow.unwrap().steps(2).collect();
        let piece = |offset, bytes| Piece { offset, bytes };
        assert_eq!(steps, [piece(0, 1), piece(64, 2), piece(66, 1)]);

        let _line = blobs.begin_line(1).unwrap();
        let (mut frames, follow) = outcome(ended(payload, Some(buffers)), &blobs);
        let sent = value(frames.next().unwrap());
        assert!(follow.is_none());
        assert_eq!(sent.payload_bytes, 2);
        assert!(blobs.take_result(sent.blob_id).is_some());
        assert!(blobs.take_result(sent.blob_id).is_none(), "it is given away once");
    }
}
