//! Code that a driver brings along for its workers.

use std::fmt::Write;
use std::sync::Arc;

use super::blobs::SessionBlobs;
use super::command::CodeArchive;
use super::inbox::Violation;
use crate::blobs::Digest;
use crate::failure::{Failure, Kind};

/// Most archives of a profile: they go to a worker with one message.
const MAX_ARCHIVES: usize = 64;

/// An archive as a profile names it.
#[derive(Debug)]
pub(crate) struct CodeUse {
    pub(crate) blob: u64,
    pub(crate) digest: Digest,
    pub(crate) working_directory: bool,
}

/// Pins what a profile names.
///
/// # Errors
/// [`Violation`] when a blob is not there; the inner failure when one was
/// refused, or there are too many.
pub(super) fn pinned(
    uses: &[CodeUse],
    blobs: &SessionBlobs,
) -> Result<Result<Arc<[CodeArchive]>, Failure>, Violation> {
    if uses.len() > MAX_ARCHIVES {
        let count = uses.len();
        let message = format!("a profile with {count} archives of code; {MAX_ARCHIVES} may be");
        return Ok(Err(Failure::new(Kind::QuotaExceeded, message)));
    }
    let mut archives = Vec::with_capacity(uses.len());
    for CodeUse { blob, digest, working_directory } in uses {
        match blobs.pin(*blob)? {
            Ok(held) => {
                let (name, working_directory) = (hexadecimal(digest), *working_directory);
                archives.push(CodeArchive { held, name, working_directory });
            }
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Ok(archives.into()))
}

fn hexadecimal(digest: &Digest) -> String {
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::Store;
    use crate::settings::BlobOptions;

    fn blobs() -> SessionBlobs {
        SessionBlobs::new(Store::new(BlobOptions {
            memory_bytes: 1 << 20,
            spill_directory: std::env::temp_dir(),
            spill_bytes: 0,
        }))
    }

    fn code(blob: u64) -> CodeUse {
        CodeUse { blob, digest: [0xa5; 32], working_directory: true }
    }

    #[tokio::test]
    async fn an_archive_is_pinned_under_its_digest_beyond_its_release() {
        let blobs = blobs();
        blobs.allocate(1, 8, false).await.unwrap();
        assert!(pinned(&[code(1)], &blobs).is_err(), "it is not complete");
        blobs.commit(1).unwrap();
        let archives = pinned(&[code(1)], &blobs).unwrap().unwrap();
        assert_eq!(archives[0].name, "a5".repeat(32));
        blobs.release(&[1]).unwrap();
        assert_eq!(archives[0].held.blob().bytes(), 8);
        let unknown = Violation::Unknown { what: "blob", number: 1 };
        assert_eq!(pinned(&[code(1)], &blobs).unwrap_err(), unknown);
    }

    #[test]
    fn too_many_are_refused() {
        let many: Vec<_> = (0..=64).map(code).collect();
        let refused = pinned(&many, &blobs()).unwrap().unwrap_err();
        assert_eq!(refused.kind, Kind::QuotaExceeded);
    }
}
