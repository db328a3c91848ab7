//! The last bytes that a worker wrote to its standard error.

use std::collections::VecDeque;

/// How much is kept, in bytes: enough for a dump of many threads.
const KEPT_BYTES: usize = 16 << 10;

/// A bounded tail.
#[derive(Debug, Default)]
pub(super) struct StderrTail {
    bytes: VecDeque<u8>,
}

impl StderrTail {
    /// Adds bytes, and forgets the oldest over the bound.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEPT_BYTES)..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(KEPT_BYTES);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes);
    }

    /// Forgets everything: a new batch begins.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What is kept, as text.
    pub(super) fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_bytes_are_kept() {
        let mut tail = StderrTail::default();
        tail.push(&vec![b'x'; KEPT_BYTES * 2]);
        tail.push(b"the end");
        assert_eq!(tail.text().len(), KEPT_BYTES);
        assert!(tail.text().ends_with("xthe end"));
        tail.clear();
        assert_eq!(tail.text(), "");
    }
}
