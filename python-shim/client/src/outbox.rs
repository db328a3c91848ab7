//! Orders what a driver says for one stream.
//!
//! Control frames go before waiting batches, so that a call ends at once however
//! much waits; the parts of a batch are interleaved with nothing but the ends of
//! calls. The parts of blobs go behind both, one in each envelope that has room, so
//! that batches keep passing an upload; and where batches fill every envelope, a
//! part goes in each second one. Envelopes are made when the transport asks for one: everything that
//! waits by then shares it.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use clutch_protocol::CHUNK_BYTES;
use clutch_protocol::v1::{self, client_frame::Body};

/// Bounds that the agent stated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Batches that may be sent and not yet ended; others wait here.
    pub(crate) open_batches: usize,
    /// Payload bytes that those may have together. A batch that is alone is
    /// sent whatever its size: the agent explains best why it is too much.
    pub(crate) open_bytes: u64,
}

/// A batch to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Everything but the payload.
    pub(crate) frame: v1::SubmitBatch,
    pub(crate) payload: Bytes,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    bounds: Bounds,
    control: VecDeque<v1::ClientFrame>,
    batches: VecDeque<Outgoing>,
    /// Parts of blobs, in order.
    parts: VecDeque<v1::BlobPart>,
    /// A part waited while the last envelope left without one.
    passed: bool,
    /// The rest of the batch whose first part was sent last.
    rest: Option<(u64, Bytes)>,
    /// Payload sizes of what was sent and has not ended, by batch.
    open: HashMap<u64, u64>,
    open_bytes: u64,
}

impl Outbox {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            control: VecDeque::new(),
            batches: VecDeque::new(),
            parts: VecDeque::new(),
            passed: false,
            rest: None,
            open: HashMap::new(),
            open_bytes: 0,
        }
    }

    /// Sends a frame ahead of all waiting batches.
    pub(crate) fn put_control(&mut self, body: Body) {
        self.control.push_back(v1::ClientFrame { body: Some(body) });
    }

    /// Sends a batch when there is room.
    pub(crate) fn put_batch(&mut self, batch: Outgoing) {
        self.batches.push_back(batch);
    }

    /// Sends bytes of a blob when there is room beside what is short.
    pub(crate) fn put_part(&mut self, part: v1::BlobPart) {
        self.parts.push_back(part);
    }

    /// Takes back the waiting batches of a call: the agent never hears of them.
    pub(crate) fn withdraw(&mut self, call_id: u64) -> Vec<u64> {
        let mut withdrawn = Vec::new();
        self.batches.retain(|batch| {
            let keep = batch.frame.call_id != call_id;
            if !keep {
                withdrawn.push(batch.frame.batch_id);
            }
            keep
        });
        withdrawn
    }

    /// Makes room: a batch that was sent has ended.
    pub(crate) fn batch_ended(&mut self, batch_id: u64) {
        self.open_bytes -= self.open.remove(&batch_id).unwrap_or(0);
    }

    /// Parts of blobs that wait.
    pub(crate) fn waiting_parts(&self) -> usize {
        self.parts.len()
    }

    /// What to send next.
    pub(crate) fn next(&mut self) -> Option<v1::ClientEnvelope> {
        let mut frames = Vec::new();
        let mut room = CHUNK_BYTES;
        if self.rest.is_some() {
            self.put_ends(&mut frames);
            self.put_rest(&mut frames);
            return Some(envelope(frames));
        }
        while let Some(frame) = self.control.front() {
            let size = control_size(frame);
            if !frames.is_empty() && size > room {
                return Some(envelope(frames));
            }
            room = room.saturating_sub(size);
            frames.extend(self.control.pop_front());
        }
        if self.passed {
            room = room.saturating_sub(self.send_part(&mut frames));
        }
        while self.may_send() {
            let size = self.batches.front().map_or(0, |batch| batch.payload.len());
            if !frames.is_empty() && size > room {
                break;
            }
            room = room.saturating_sub(size);
            let Some(Outgoing { mut frame, mut payload }) = self.batches.pop_front() else { break };
            self.open.insert(frame.batch_id, size as u64);
            self.open_bytes += size as u64;
            frame.payload_bytes = size as u64;
            let rest = payload.split_off(size.min(CHUNK_BYTES));
            let batch_id = frame.batch_id;
            frame.payload = payload;
            frames.push(v1::ClientFrame { body: Some(Body::SubmitBatch(frame)) });
            if !rest.is_empty() {
                self.rest = Some((batch_id, rest));
                break;
            }
        }
        let fits = |part: &v1::BlobPart| frames.is_empty() || part.data.len() <= room;
        // The batch that has begun is finished first.
        if self.rest.is_none() && self.parts.front().is_some_and(fits) {
            self.send_part(&mut frames);
            self.passed = false;
        } else {
            self.passed = !self.parts.is_empty();
        }
        (!frames.is_empty()).then(|| envelope(frames))
    }

    /// Moves a part into an envelope; gives its size.
    fn send_part(&mut self, frames: &mut Vec<v1::ClientFrame>) -> usize {
        let Some(part) = self.parts.pop_front() else { return 0 };
        let size = part.data.len();
        frames.push(v1::ClientFrame { body: Some(Body::BlobPart(part)) });
        size
    }

    /// Only the ends of calls may come between the parts of a batch.
    fn put_ends(&mut self, frames: &mut Vec<v1::ClientFrame>) {
        let is_end = |frame: &v1::ClientFrame| matches!(frame.body, Some(Body::CloseCall(_)));
        // A call that opens after one of these may be ended by a later one.
        while self.control.front().is_some_and(is_end) {
            frames.extend(self.control.pop_front());
        }
    }

    fn put_rest(&mut self, frames: &mut Vec<v1::ClientFrame>) {
        if let Some((batch_id, mut data)) = self.rest.take() {
            let after = data.split_off(data.len().min(CHUNK_BYTES));
            let part = v1::PayloadPart { batch_id, data };
            frames.push(v1::ClientFrame { body: Some(Body::PayloadPart(part)) });
            if !after.is_empty() {
                self.rest = Some((batch_id, after));
            }
        }
    }

    /// Whether a batch waits for which there is room.
    pub(crate) fn may_send(&self) -> bool {
        let Some(next) = self.batches.front() else { return false };
        let open_bytes = self.open_bytes + next.payload.len() as u64;
        self.open.is_empty()
            || self.open.len() < self.bounds.open_batches && open_bytes <= self.bounds.open_bytes
    }
}

fn control_size(frame: &v1::ClientFrame) -> usize {
    const FRAMING: usize = 64;
    FRAMING
        + match &frame.body {
            Some(Body::BlobPart(part)) => part.data.len(),
            Some(Body::DefineProfile(profile)) => profile.setup.len(),
            _ => 0,
        }
}

/// Bytes that a frame takes in an envelope, nearly.
pub(crate) fn frame_size(frame: &v1::ClientFrame) -> usize {
    control_size(frame)
        + match &frame.body {
            Some(Body::SubmitBatch(batch)) => batch.payload.len(),
            Some(Body::PayloadPart(part)) => part.data.len(),
            _ => 0,
        }
}

fn envelope(frames: Vec<v1::ClientFrame>) -> v1::ClientEnvelope {
    v1::ClientEnvelope { frames, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        Outbox::new(Bounds { open_batches: 3, open_bytes: 4 << 20 })
    }

    fn batch(batch_id: u64, call_id: u64, bytes: usize) -> Outgoing {
        let frame = v1::SubmitBatch { batch_id, call_id, tasks: 1, ..Default::default() };
        Outgoing { frame, payload: vec![7; bytes].into() }
    }

    fn close(call_id: u64) -> Body {
        Body::CloseCall(v1::CloseCall { call_id })
    }

    /// What an envelope says, in short.
    fn said(envelope: Option<v1::ClientEnvelope>) -> Vec<String> {
        let frames = envelope.map(|envelope| envelope.frames).unwrap_or_default();
        let short = |frame: v1::ClientFrame| match frame.body.unwrap() {
            Body::SubmitBatch(batch) => {
                format!("{}:{}/{}", batch.batch_id, batch.payload.len(), batch.payload_bytes)
            }
            Body::PayloadPart(part) => format!("{}+{}", part.batch_id, part.data.len()),
            Body::CloseCall(call) => format!("close {}", call.call_id),
            Body::OpenCall(call) => format!("open {}", call.call_id),
            Body::BlobPart(part) => format!("blob {}+{}", part.blob_id, part.data.len()),
            Body::DefineProfile(_) | Body::OfferBlob(_) | Body::ReleaseBlobs(_) => {
                "other".to_owned()
            }
        };
        frames.into_iter().map(short).collect()
    }

    #[test]
    fn what_waits_shares_an_envelope_and_control_goes_first() {
        let mut outbox = outbox();
        outbox.put_batch(batch(1, 1, 10));
        outbox.put_batch(batch(2, 1, 20));
        outbox.put_control(close(9));
        assert_eq!(said(outbox.next()), ["close 9", "1:10/10", "2:20/20"]);
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn batches_beyond_the_bounds_wait_until_others_end() {
        let mut outbox = outbox();
        (1..=4).for_each(|id| outbox.put_batch(batch(id, 1, 1)));
        assert_eq!(said(outbox.next()).len(), 3);
        assert_eq!(outbox.next(), None);
        outbox.batch_ended(2);
        assert_eq!(said(outbox.next()), ["4:1/1"]);
    }

    #[test]
    fn bytes_are_bounded_but_a_batch_that_is_alone_goes() {
        let mut outbox = outbox();
        outbox.put_batch(batch(1, 1, 5 << 20));
        outbox.put_batch(batch(2, 1, 1));
        while outbox.next().is_some() {}
        assert_eq!(outbox.open.len(), 1);
        outbox.batch_ended(1);
        assert_eq!(said(outbox.next()), ["2:1/1"]);
    }

    #[test]
    fn only_the_end_of_a_call_comes_between_the_parts_of_a_batch() {
        let mut outbox = outbox();
        let mega = 1 << 20;
        outbox.put_batch(batch(1, 1, 2 * mega + 5));
        outbox.put_batch(batch(2, 2, 1));
        assert_eq!(said(outbox.next()), [format!("1:{mega}/{}", 2 * mega + 5)]);
        outbox.put_control(close(1));
        assert_eq!(said(outbox.next()), ["close 1".to_owned(), format!("1+{mega}")]);
        assert_eq!(said(outbox.next()), ["1+5"]);
        assert_eq!(said(outbox.next()), ["2:1/1"]);
    }

    fn part(blob_id: u64, bytes: usize) -> v1::BlobPart {
        v1::BlobPart { blob_id, data: vec![7; bytes].into() }
    }

    #[test]
    fn batches_pass_the_parts_of_blobs() {
        let mut outbox = outbox();
        (1..=3).for_each(|_| outbox.put_part(part(9, 5)));
        outbox.put_batch(batch(1, 1, 10));
        outbox.put_control(close(8));
        assert_eq!(said(outbox.next()), ["close 8", "1:10/10", "blob 9+5"]);
        assert_eq!(said(outbox.next()), ["blob 9+5"]);
        outbox.put_batch(batch(2, 1, 10));
        assert_eq!(said(outbox.next()), ["2:10/10", "blob 9+5"]);
        assert_eq!((outbox.next(), outbox.waiting_parts()), (None, 0));
    }

    #[test]
    fn batches_that_fill_every_envelope_do_not_hold_parts_up() {
        let mut outbox = outbox();
        let mega = 1 << 20;
        (1..=2).for_each(|_| outbox.put_part(part(9, 5)));
        (1..=3).for_each(|id| outbox.put_batch(batch(id, 1, mega)));
        let full = |id| format!("{id}:{mega}/{mega}");
        assert_eq!(said(outbox.next()), [full(1)]);
        assert_eq!(said(outbox.next()), ["blob 9+5".to_owned(), "blob 9+5".to_owned()]);
        assert_eq!(said(outbox.next()), [full(2)]);
    }

    #[test]
    fn no_part_of_a_blob_comes_between_the_parts_of_a_batch() {
        let mut outbox = outbox();
        let mega = 1 << 20;
        outbox.put_part(part(9, 5));
        outbox.put_batch(batch(1, 1, mega + 3));
        assert_eq!(said(outbox.next()), [format!("1:{mega}/{}", mega + 3)]);
        assert_eq!(said(outbox.next()), ["1+3"]);
        assert_eq!(said(outbox.next()), ["blob 9+5"]);
    }

    #[test]
    fn a_withdrawn_batch_is_never_sent() {
        let mut outbox = outbox();
        outbox.put_batch(batch(1, 1, 1));
        outbox.put_batch(batch(2, 2, 1));
        assert_eq!(outbox.withdraw(1), [1]);
        assert_eq!(said(outbox.next()), ["2:1/1"]);
        assert_eq!(outbox.withdraw(2), Vec::<u64>::new());
    }
}
