//! The stream of a session, as the network thread runs it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use clutch_protocol::v1::executor_client::ExecutorClient;
use clutch_protocol::v1::{self, agent_frame::Body, batch_ended};
use futures_core::Stream;
use tonic::transport::Channel;

use crate::call::{Buffers, Ended, Ending, Outcome, ResultBlob, Value};
use crate::data_line::DataLine;
use crate::handshake::describe;
use crate::inbox::{Broken, Inbox, Whole};
use crate::row::Row;
use crate::session::Shared;

/// Talks until either side ends it; then the agent is lost.
pub(crate) async fn converse<T: Send + 'static>(
    shared: Arc<Shared<T>>,
    mut client: ExecutorClient<Channel>,
    session_id: String,
) {
    let envelopes = Envelopes { shared: Arc::clone(&shared), session_id: Some(session_id) };
    let reason = match client.attach(envelopes).await {
        Err(status) => describe(&status),
        Ok(response) => {
            let mut stream = response.into_inner();
            let mut inbox = Inbox::default();
            loop {
                match stream.message().await {
                    Ok(Some(envelope)) => {
                        if let Err(broken) = take(&shared, &mut inbox, envelope) {
                            break broken.to_string();
                        }
                    }
                    Ok(None) => break "it ended the session".to_owned(),
                    Err(status) => break describe(&status),
                }
            }
        }
    };
    shared.lose(reason);
}

fn take<T: Send + 'static>(
    shared: &Shared<T>,
    inbox: &mut Inbox,
    envelope: v1::AgentEnvelope,
) -> Result<(), Broken> {
    for frame in envelope.frames {
        match frame.body {
            Some(Body::BatchEnded(ended)) => {
                if let Some(whole) = inbox.begin(ended)? {
                    end(shared, whole)?;
                }
            }
            Some(Body::PayloadPart(part)) => {
                if let Some(whole) = inbox.resume(part)? {
                    end(shared, whole)?;
                }
            }
            Some(Body::Output(output)) => shared.outputs.push(shared.source, output),
            Some(Body::Capacity(capacity)) => {
                shared.slots.store(capacity.slots, Ordering::Relaxed);
            }
            Some(Body::BlobState(blob)) => {
                if let Some(said) = shared.lock().offers.get_mut(&blob.blob_id) {
                    *said = blob.state;
                    shared.changed.notify_all();
                }
            }
            // An addition of a newer agent.
            None => {}
        }
    }
    Ok(())
}

fn end<T: Send + 'static>(shared: &Shared<T>, (ended, pieces): Whole) -> Result<(), Broken> {
    let mut state = shared.lock();
    let open = state.open.remove(&ended.batch_id);
    let open = open.ok_or(Broken("a batch ended that is not open"))?;
    state.outbox.batch_ended(ended.batch_id);
    // There may be room for a batch that waits.
    let waker = if state.outbox.may_send() { state.waker.take() } else { None };
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
    let result = match ended.outcome {
        Some(batch_ended::Outcome::Value(value)) => {
            Ok(whole_value(shared.data_line.get().cloned(), value, pieces)?)
        }
        Some(batch_ended::Outcome::Failure(failure)) => Err(counted(failure, open.losses.len())),
        None => return Err(Broken("an outcome has neither value nor failure")),
    };
    let timings = ended.timings.unwrap_or_default();
    let outcome = Outcome {
        ran_nanoseconds: timings.task_nanoseconds.iter().sum(),
        worker_pid: ended.worker_pid,
        result,
        losses: open.losses,
        earlier: ended.earlier_attempts,
    };
    open.call.rows().add(Row {
        number: open.number,
        copy: open.copy,
        agent: Arc::clone(&shared.agent),
        batch_id: ended.batch_id,
        tasks: open.tasks,
        worker_pid: ended.worker_pid,
        timings,
        usage: ended.usage.unwrap_or_default(),
        failed: outcome.result.as_ref().err().map(|failure| failure.kind),
        losses: outcome.losses.len(),
        earlier: outcome.earlier.iter().map(|attempt| attempt.kind).collect(),
        notes: ended.notes,
    });
    let ending = Ending::Outcome(Box::new(outcome));
    open.call.push(Ended { token: open.token, ending });
    Ok(())
}

/// The agent knows of its own attempts only.
fn counted(mut failure: v1::Failure, losses: usize) -> v1::Failure {
    if failure.attempt > 0 {
        failure.attempt += u32::try_from(losses).unwrap_or(0);
    }
    failure
}

pub(crate) fn whole_value(
    line: Option<Arc<DataLine>>,
    value: v1::Value,
    pieces: Vec<bytes::Bytes>,
) -> Result<Value, Broken> {
    let v1::Value { payload_bytes, buffer_bytes, blob_id, saved_bytes, .. } = value;
    let without = |rest: u64, lengths: &[u64]| {
        lengths.iter().try_fold(rest, |rest, length| rest.checked_sub(*length))
    };
    let inline: &[u64] = if blob_id == 0 { &buffer_bytes } else { &[] };
    let last = without(payload_bytes, inline).and_then(|rest| without(rest, &saved_bytes));
    let last = last.ok_or(Broken("pickles and buffers are longer than their payload"))?;
    let mut pickle_bytes = saved_bytes;
    pickle_bytes.push(last);
    let buffers = match blob_id {
        0 => Buffers::Inline(buffer_bytes),
        _ => Buffers::Blob { blob: ResultBlob::new(blob_id, line), lengths: buffer_bytes },
    };
    Ok(Value { pieces, pickle_bytes, buffers })
}

/// What the driver says, as the transport asks for it.
struct Envelopes<T> {
    shared: Arc<Shared<T>>,
    /// Goes first.
    session_id: Option<String>,
}

impl<T> Stream for Envelopes<T> {
    type Item = v1::ClientEnvelope;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(session_id) = self.session_id.take() {
            return Poll::Ready(Some(v1::ClientEnvelope { session_id, ..Default::default() }));
        }
        let mut state = self.shared.lock();
        if state.closed || state.lost.is_some() {
            return Poll::Ready(None);
        }
        if let Some(envelope) = state.outbox.next() {
            // An upload may wait for room.
            let uploading = !state.offers.is_empty();
            drop(state);
            if uploading {
                self.shared.changed.notify_all();
            }
            return Poll::Ready(Some(envelope));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pickle_has_what_saved_ones_and_buffers_leave() {
        let value = |blob_id, saved: &[u64]| {
            let value = v1::Value {
                payload_bytes: 100,
                buffer_bytes: vec![30, 10],
                blob_id,
                saved_bytes: saved.to_vec(),
                ..Default::default()
            };
            whole_value(None, value, Vec::new()).map(|value| {
                let inline = matches!(value.buffers, Buffers::Inline(_));
                (value.pickle_bytes, inline)
            })
        };
        assert_eq!(value(0, &[]), Ok((vec![60], true)));
        assert_eq!(value(0, &[20, 5]), Ok((vec![20, 5, 35], true)));
        assert_eq!(value(0, &[60]), Ok((vec![60, 0], true)));
        assert_eq!(value(9, &[60]), Ok((vec![60, 40], false)));
        assert!(value(0, &[61]).is_err());
        assert!(value(9, &[u64::MAX, 1]).is_err());
    }
}
