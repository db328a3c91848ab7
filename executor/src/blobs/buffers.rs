//! The out-of-band buffers of a result, in the one file that a worker made.

use clutch_worker_link::BUFFER_ALIGNMENT;

use super::blob::Blob;

/// Buffers, one after the other, each at the next multiple of
/// [`BUFFER_ALIGNMENT`].
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    /// Their file.
    pub(crate) blob: Blob,
    /// Their lengths in bytes.
    pub(crate) lengths: Vec<u64>,
}

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Buffers {
    /// What they hold together, without the gaps.
    pub(crate) fn bytes(&self) -> u64 {
        self.lengths.iter().sum()
    }

    /// Where to read them, in steps of at most so many bytes.
    pub(crate) fn steps(&self, most: u64) -> impl Iterator<Item = Piece> {
        places(self.lengths.clone()).flat_map(move |Piece { offset, bytes }| {
            let steps = bytes.div_ceil(most);
            (0..steps).map(move |step| {
                let begun = step * most;
                Piece { offset: offset + begun, bytes: most.min(bytes - begun) }
            })
        })
    }
}

/// Bytes from the beginning of the file to the end of the last buffer; `None`
/// when no file is that long.
pub(crate) fn end_of(lengths: &[u64]) -> Option<u64> {
    lengths.iter().try_fold(0_u64, |end, bytes| {
        end.checked_next_multiple_of(BUFFER_ALIGNMENT)?.checked_add(*bytes)
    })
}

/// Where each buffer is, for lengths that have an end.
fn places(lengths: Vec<u64>) -> impl Iterator<Item = Piece> {
    let mut end = 0_u64;
    lengths.into_iter().map(move |bytes| {
        let offset = end.next_multiple_of(BUFFER_ALIGNMENT);
        end = offset + bytes;
        Piece { offset, bytes }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_buffer_begins_at_the_next_multiple_of_the_alignment() {
        let offsets: Vec<u64> = places(vec![1, 64, 0, 65, 3]).map(|piece| piece.offset).collect();
        assert_eq!(offsets, [0, 64, 128, 128, 256]);
        assert_eq!(end_of(&[1, 64, 0, 65, 3]), Some(259));
        assert_eq!(end_of(&[]), Some(0));
        assert_eq!(end_of(&[1, u64::MAX]), None);
        assert_eq!(end_of(&[u64::MAX, 0]), None);
    }
}
