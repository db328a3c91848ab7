//! Puts outcomes that came in parts together again.

use bytes::Bytes;
use clutch_protocol::v1::{self, batch_ended};

/// The agent sent what the contract does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it broke the contract: {0}")]
pub(crate) struct Broken(pub(crate) &'static str);

/// An outcome, and the payload of its value in the pieces in which it came.
pub(crate) type Whole = (v1::BatchEnded, Vec<Bytes>);

/// Collects the parts of one outcome at a time.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    ended: v1::BatchEnded,
    pieces: Vec<Bytes>,
    missing: u64,
}

impl Inbox {
    /// Takes an outcome, or its beginning; gives it when it is whole.
    pub(crate) fn begin(&mut self, mut ended: v1::BatchEnded) -> Result<Option<Whole>, Broken> {
        if self.partial.is_some() {
            return Err(Broken("an outcome began before the last was complete"));
        }
        let (first, total) = match &mut ended.outcome {
            None => return Err(Broken("an outcome has neither value nor failure")),
            Some(batch_ended::Outcome::Failure(_)) => (Bytes::new(), 0),
            Some(batch_ended::Outcome::Value(value)) => {
                (std::mem::take(&mut value.payload), value.payload_bytes)
            }
        };
        self.add(Partial { ended, pieces: Vec::new(), missing: total }, first)
    }

    /// Takes the next part.
    pub(crate) fn resume(&mut self, part: v1::PayloadPart) -> Result<Option<Whole>, Broken> {
        let continues = |partial: &Partial| partial.ended.batch_id == part.batch_id;
        match self.partial.take().filter(continues) {
            Some(partial) if !part.data.is_empty() => self.add(partial, part.data),
            _ => Err(Broken("a payload part continues no outcome")),
        }
    }

    fn add(&mut self, mut partial: Partial, data: Bytes) -> Result<Option<Whole>, Broken> {
        let missing = partial.missing.checked_sub(data.len() as u64);
        partial.missing = missing.ok_or(Broken("an outcome is longer than it said"))?;
        if !data.is_empty() {
            partial.pieces.push(data);
        }
        if partial.missing > 0 {
            self.partial = Some(partial);
            return Ok(None);
        }
        Ok(Some((partial.ended, partial.pieces)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(batch_id: u64, payload: &'static [u8], payload_bytes: u64) -> v1::BatchEnded {
        let payload = Bytes::from_static(payload);
        let value = v1::Value { payload, payload_bytes, ..Default::default() };
        v1::BatchEnded {
            batch_id,
            outcome: Some(batch_ended::Outcome::Value(value)),
            ..Default::default()
        }
    }

    fn part(batch_id: u64, data: &'static [u8]) -> v1::PayloadPart {
        v1::PayloadPart { batch_id, data: Bytes::from_static(data) }
    }

    #[test]
    fn parts_become_one_outcome() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.begin(value(1, b"ab", 5)), Ok(None));
        assert_eq!(inbox.resume(part(1, b"cd")), Ok(None));
        let (ended, pieces) = inbox.resume(part(1, b"e")).unwrap().unwrap();
        assert_eq!((ended.batch_id, pieces.concat()), (1, b"abcde".to_vec()));
        assert!(inbox.begin(value(2, b"", 0)).unwrap().is_some());
    }

    #[test]
    fn what_the_contract_does_not_allow_is_told() {
        let mut inbox = Inbox::default();
        assert!(inbox.begin(v1::BatchEnded::default()).is_err());
        assert!(inbox.begin(value(1, b"abc", 2)).is_err());
        assert!(inbox.resume(part(1, b"x")).is_err());
        assert_eq!(inbox.begin(value(1, b"a", 2)), Ok(None));
        assert!(inbox.begin(value(2, b"a", 1)).is_err());
        assert!(inbox.resume(part(3, b"x")).is_err());
    }
}
