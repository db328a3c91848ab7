//! Whether memory is short.

/// Memory of the machine, or below the ceiling of all workers, runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// What may be used, in bytes.
    pub(crate) limit: u64,
    /// What is used, in bytes.
    pub(crate) peak: u64,
}
