//! Names of content.

/// The BLAKE3 digest by which agents know content.
#[must_use]
pub fn digest(content: &[u8]) -> [u8; 32] {
    *blake3::hash(content).as_bytes()
}
