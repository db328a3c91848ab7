//! The stream of a session, as the network thread runs it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use clutch_access::Channel;
use clutch_protocol::v1::executor_client::ExecutorClient;
use clutch_protocol::v1::{self, agent_frame::Body, batch_ended};
use futures_core::Stream;
use prost::Message;
use tokio::time::{Sleep, sleep};

use crate::call::{Buffers, Ended, Ending, Outcome, ResultBlob, Value};
use crate::data_line::DataLine;
use crate::inbox::{Broken, Inbox, Whole};
use crate::link::Next;
use crate::output::{LinkEvent, News};
use crate::patience::Failed;
use crate::reconnect::{self, Talk, Trial, Whereabouts, failed};
use crate::row::Row;
use crate::session::{Shared, State};

/// How long an acknowledgement waits for something to go with.
const COMPANY: Duration = Duration::from_millis(100);

/// How a stream ended.
enum Over {
    /// With the session.
    Session(String),
    /// For a reason that lies between driver and agent.
    Connection(String),
}

/// Talks until either side ends it, over as many streams as it takes; then the
/// agent is lost.
pub(crate) async fn converse<T: Send + 'static>(
    shared: Arc<Shared<T>>,
    mut client: ExecutorClient<Channel>,
    agent: Whereabouts,
) {
    let tell = |event| shared.outputs.tell(News { agent: agent.target.address.to_string(), event });
    let mut inbox = Inbox::default();
    let mut last = None;
    let first = v1::ClientEnvelope { session_id: agent.session_id.clone(), ..Default::default() };
    let attached = client.attach(Envelopes::new(&shared, first)).await;
    let begun =
        attached.map(|response| Talk { first: None, stream: response.into_inner(), client });
    let mut talk = begun.map_err(|status| failed(&status));
    let reason = loop {
        let over = match talk {
            Ok(talk) => listen(&shared, &mut inbox, talk).await,
            Err(Failed::ForGood(why)) => Over::Session(why),
            Err(Failed::Refused(why) | Failed::ForNow(why)) => Over::Connection(why),
        };
        let (broke, silence) = match over {
            Over::Session(why) => break why,
            Over::Connection(why) => (why, shared.silence),
        };
        if silence.is_zero() {
            break broke;
        }
        shared.attached.store(false, Ordering::Relaxed);
        tell(LinkEvent::Broke { why: broke.clone(), limit: silence });
        let since = Instant::now();
        let progress = shared.lock().link.progress();
        let mut trial = Trial::after(last.take(), progress, silence);
        talk = tokio::select! {
            again = reconnect::persist(&shared, &agent, &mut trial) => match again {
                Ok(talk) => Ok(talk),
                Err(why) => break format!("{broke}; then: {why}"),
            },
            () = shared.over.notified() => break broke,
        };
        last = Some(trial);
        shared.attached.store(true, Ordering::Relaxed);
        tell(LinkEvent::Restored { after: since.elapsed() });
    };
    shared.lose(reason);
}

async fn listen<T: Send + 'static>(shared: &Shared<T>, inbox: &mut Inbox, talk: Talk) -> Over {
    let Talk { mut first, mut stream, client: _client } = talk;
    loop {
        let envelope = match first.take() {
            Some(first) => Ok(Some(first)),
            None => stream.message().await,
        };
        match envelope {
            Ok(Some(envelope)) => {
                if let Err(broken) = take(shared, inbox, envelope) {
                    return Over::Session(broken.to_string());
                }
            }
            Ok(None) => return Over::Session("it ended the session".to_owned()),
            Err(status) => {
                return match failed(&status) {
                    Failed::ForGood(why) => Over::Session(why),
                    Failed::Refused(why) | Failed::ForNow(why) => Over::Connection(why),
                };
            }
        }
    }
}

fn take<T: Send + 'static>(
    shared: &Shared<T>,
    inbox: &mut Inbox,
    envelope: v1::AgentEnvelope,
) -> Result<(), Broken> {
    let keeps = !shared.silence.is_zero();
    let (count, bytes) =
        if keeps { (envelope.frames.len() as u64, envelope.encoded_len()) } else { (0, 0) };
    let acknowledged = envelope.acknowledged;
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
    if keeps {
        let mut state = shared.lock();
        state.link.took(count, bytes);
        let acknowledged = state.link.acknowledge(acknowledged);
        acknowledged.map_err(|_| Broken("it acknowledged what was not sent"))?;
        // There may be room, or something to acknowledge.
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
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

/// What the driver says over one stream, as the transport asks for it.
pub(crate) struct Envelopes<T> {
    shared: Arc<Shared<T>>,
    /// Goes first.
    first: Option<v1::ClientEnvelope>,
    stream: u64,
    /// How long an acknowledgement waits, while one does.
    company: Option<Pin<Box<Sleep>>>,
}

impl<T> Envelopes<T> {
    /// Those of the stream that now carries the conversation.
    pub(crate) fn new(shared: &Arc<Shared<T>>, first: v1::ClientEnvelope) -> Self {
        let stream = shared.lock().link.stream();
        Self { shared: Arc::clone(shared), first: Some(first), stream, company: None }
    }

    /// Whether an acknowledgement has waited long enough.
    fn is_alone(&mut self, context: &mut Context<'_>) -> bool {
        let polled = self.company.as_mut().map(|company| company.as_mut().poll(context));
        let alone = matches!(polled, Some(Poll::Ready(())));
        if alone {
            self.company = None;
        }
        alone
    }
}

impl<T> Stream for Envelopes<T> {
    type Item = v1::ClientEnvelope;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let alone = self.is_alone(context);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.closed || state.lost.is_some() {
            return Poll::Ready(None);
        }
        let State { outbox, link, .. } = &mut *state;
        match link.next(outbox, self.stream, alone) {
            Next::Say(envelope) => {
                // An upload may wait for room.
                let uploading = !state.offers.is_empty();
                drop(state);
                if uploading {
                    shared.changed.notify_all();
                }
                Poll::Ready(Some(envelope))
            }
            Next::Nothing { acknowledge } => {
                state.waker = Some(context.waker().clone());
                drop(state);
                if acknowledge && self.company.is_none() {
                    self.company = Some(Box::pin(sleep(COMPANY)));
                    // Has the clock wake this stream.
                    self.is_alone(context);
                }
                Poll::Pending
            }
            // Its end would be taken for the session's.
            Next::Superseded => Poll::Pending,
        }
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
