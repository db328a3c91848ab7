//! What of a session's conversation outlives its streams.

use clutch_protocol::delivery::{Miscount, Sent, Taken};
use clutch_protocol::{CHUNK_BYTES, v1};

use crate::outbox::{Outbox, frame_size};

/// What was said and heard, over all streams. One stream at a time carries it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whether anything is kept: the session outlives a connection that broke.
    keeps: bool,
    sent: Sent<v1::ClientFrame>,
    taken: Taken,
    /// Number of the stream that carries it.
    stream: u64,
    /// The agent has said where to go on.
    open: bool,
}

/// What a stream says next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Say(v1::ClientEnvelope),
    /// Nothing now; `acknowledge`: something is to be acknowledged when nothing
    /// else comes.
    Nothing {
        acknowledge: bool,
    },
    /// Nothing ever: another stream carries it.
    Superseded,
}

impl Link {
    pub(crate) fn new(keeps: bool) -> Self {
        Self { keeps, sent: Sent::default(), taken: Taken::default(), stream: 0, open: true }
    }

    /// Grows when anything has come through, either way.
    pub(crate) const fn progress(&self) -> u64 {
        self.taken.frames() + self.sent.acknowledged()
    }

    /// Number of the stream that carries the conversation.
    pub(crate) const fn stream(&self) -> u64 {
        self.stream
    }

    /// Begins with another stream; gives what to tell the agent in its first
    /// envelope. Until the agent has answered, nothing is said.
    pub(crate) const fn reconnect(&mut self) -> v1::Resume {
        self.stream += 1;
        self.open = false;
        v1::Resume { received: self.taken.resume() }
    }

    /// The agent has answered.
    pub(crate) fn resume(&mut self, resumed: v1::Resumed) -> Result<(), Miscount> {
        self.sent.resume(resumed.received)?;
        self.open = true;
        Ok(())
    }

    /// The agent has taken frames.
    pub(crate) fn acknowledge(&mut self, taken: u64) -> Result<(), Miscount> {
        if taken > 0 { self.sent.acknowledge(taken) } else { Ok(()) }
    }

    /// Frames of the agent were taken, for good.
    pub(crate) const fn took(&mut self, frames: u64, bytes: usize) {
        self.taken.take(frames, bytes);
    }

    /// What to say next. `alone`: an acknowledgement has waited long enough for
    /// something to go with.
    pub(crate) fn next(&mut self, outbox: &mut Outbox, stream: u64, alone: bool) -> Next {
        if !self.keeps {
            return outbox.next().map_or(Next::Nothing { acknowledge: false }, Next::Say);
        }
        if stream != self.stream {
            return Next::Superseded;
        }
        if !self.open {
            return Next::Nothing { acknowledge: false };
        }
        let mut frames = self.sent.next(CHUNK_BYTES);
        if frames.is_empty() && !self.sent.is_full() {
            for frame in outbox.next().map(|envelope| envelope.frames).unwrap_or_default() {
                let size = frame_size(&frame);
                self.sent.push(frame, size);
            }
            frames = self.sent.next(usize::MAX);
        }
        let acknowledge = self.taken.is_pending();
        if frames.is_empty() && !self.taken.is_due() && !(alone && acknowledge) {
            return Next::Nothing { acknowledge };
        }
        let acknowledged = self.taken.tell();
        Next::Say(v1::ClientEnvelope { frames, acknowledged, ..Default::default() })
    }
}

#[cfg(test)]
mod tests {
    use clutch_protocol::v1::client_frame::Body;

    use super::*;
    use crate::outbox::Bounds;

    fn outbox(closes: std::ops::Range<u64>) -> Outbox {
        let mut outbox = Outbox::new(Bounds { open_batches: 9, open_bytes: 9 << 20 });
        for call_id in closes {
            outbox.put_control(Body::CloseCall(v1::CloseCall { call_id }));
        }
        outbox
    }

    fn said(next: Next) -> Vec<u64> {
        let Next::Say(envelope) = next else { panic!("{next:?}") };
        let frames = envelope.frames.into_iter();
        frames
            .map(|frame| match frame.body {
                Some(Body::CloseCall(close)) => close.call_id,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    const NOTHING: Next = Next::Nothing { acknowledge: false };

    #[test]
    fn without_silence_nothing_is_kept_or_acknowledged() {
        let mut link = Link::new(false);
        let mut outbox = outbox(1..3);
        assert_eq!(said(link.next(&mut outbox, 0, false)), [1, 2]);
        assert!(link.sent.is_empty());
        assert_eq!(link.next(&mut outbox, 0, true), NOTHING);
    }

    #[test]
    fn what_the_agent_lacks_is_said_again_before_anything_new_once_it_has_said_so() {
        let mut link = Link::new(true);
        let mut outbox = outbox(1..4);
        assert_eq!(said(link.next(&mut outbox, 0, false)), [1, 2, 3]);
        link.took(7, 0);
        assert_eq!(link.reconnect(), v1::Resume { received: 7 });
        outbox.put_control(Body::CloseCall(v1::CloseCall { call_id: 4 }));
        assert_eq!(link.next(&mut outbox, 1, false), NOTHING);
        assert_eq!(link.next(&mut outbox, 0, false), Next::Superseded);
        link.resume(v1::Resumed { received: 1 }).unwrap();
        assert_eq!(said(link.next(&mut outbox, 1, false)), [2, 3]);
        assert_eq!(said(link.next(&mut outbox, 1, false)), [4]);
        link.reconnect();
        assert!(link.resume(v1::Resumed { received: 5 }).is_err());
    }

    #[test]
    fn an_acknowledgement_waits_for_company_and_then_goes_alone() {
        let mut link = Link::new(true);
        let mut outbox = outbox(0..0);
        link.took(1, 10);
        assert_eq!(link.next(&mut outbox, 0, false), Next::Nothing { acknowledge: true });
        let Next::Say(envelope) = link.next(&mut outbox, 0, true) else { panic!() };
        assert_eq!((envelope.acknowledged, envelope.frames.len()), (1, 0));
        assert_eq!(link.next(&mut outbox, 0, true), NOTHING);
        link.took(1, 10);
        outbox.put_control(Body::CloseCall(v1::CloseCall { call_id: 4 }));
        let Next::Say(envelope) = link.next(&mut outbox, 0, false) else { panic!() };
        assert_eq!((envelope.acknowledged, envelope.frames.len()), (2, 1));
    }
}
