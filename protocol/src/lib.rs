//! The gRPC contract between a driver and an agent.
//!
//! The contract itself is in `proto/clutch/v1`; [`v1`] is generated from it and
//! committed, so that building needs no protocol compiler. After a change to a
//! `.proto` file, `make generate` rewrites it.

pub mod delivery;

/// Major version of the contract; sides with different majors cannot talk.
pub const PROTOCOL_MAJOR: u32 = 1;

/// Minor version of the contract; grows with every addition.
pub const PROTOCOL_MINOR: u32 = 1;

/// Payload bytes that one frame carries at most; the rest of a longer payload
/// follows in `PayloadPart` frames.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Bytes of a blob that one part carries: few, so that on a slow network little
/// is ahead of what comes next. A receiver takes parts of any length.
pub const BLOB_PART_BYTES: usize = 128 << 10;

/// Encoded bytes that one gRPC message may have, in either direction.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Where the buffers of a result begin in its blob: at multiples of this.
pub const BUFFER_ALIGNMENT: u64 = 64;

// A full chunk and its framing must fit, with room for small frames beside it.
const _: () = assert!(CHUNK_BYTES * 2 <= MAX_MESSAGE_BYTES);

/// Version 1 of the contract: package `clutch.v1`.
#[deny(missing_docs, reason = "an undocumented piece of the contract does not build")]
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::default_trait_access,
    clippy::doc_markdown,
    clippy::large_enum_variant,
    clippy::missing_errors_doc,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod v1 {
    include!("generated/clutch.v1.rs");
}

impl v1::ProtocolVersion {
    /// The version of the contract that this build speaks.
    pub const CURRENT: Self = Self { major: PROTOCOL_MAJOR, minor: PROTOCOL_MINOR };
}
