//! How a driver and its workers write and map big contents: files in shared
//! memory, in huge pages where the kernel has some.
//!
//! The kernel asks as much for each small page of a file as for copying it: to
//! find it, to account for it, to map it and to take it back. In huge pages the
//! copy is nearly all that is left. They are asked for by `MADV_COLLAPSE`
//! (Linux 6.1), which needs no setting of the machine; where it is unknown, or
//! the kernel has to search for long, pages stay small and nothing else changes.
//!
//! Knows neither Python nor the contract.

mod fill;
mod map;
mod patience;

pub use fill::{Piece, fill};
pub use map::Map;

/// Bytes of a huge page, on the machines that we know.
pub const HUGE_BYTES: u64 = 2 << 20;
