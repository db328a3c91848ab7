//! Whether memory is short.

/// Memory of the machine, or below the ceiling of all workers, runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// What may be used, in bytes.
    pub(crate) limit: u64,
    /// The most that was in use since it began, in bytes.
    pub(crate) peak: u64,
    /// Whether it is as bad now as when it began. Otherwise what runs fits, and
    /// nothing more does.
    pub(crate) acute: bool,
}
