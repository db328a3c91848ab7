//! From the wire to what the rooms understand, refusing by field name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clutch_protocol::v1::{self, client_frame::Body};

use clutch_worker_link::Access;

use crate::blobs::{Digest, Wanted};
use crate::identifiers::{ProfileId, SessionId};
use crate::limits::Limits;
use crate::session::{BlobUses, CallSettings, CodeUse, Offer, Profile, Said};

/// Most agents that an offer may name.
const MAX_SOURCES: usize = 64;

/// Bytes that an agent's address may have.
const MAX_ADDRESS_BYTES: usize = 300;

/// One thing that a driver says.
#[derive(Debug)]
pub(super) enum Spoken {
    /// About batches.
    Said(Said),
    /// About blobs.
    Blob(BlobSaid),
}

/// One thing that a driver says about blobs.
#[derive(Debug)]
pub(super) enum BlobSaid {
    /// Offers one.
    Offer(Offer),
    /// Sends bytes of one.
    Part { blob: u64, data: Bytes },
    /// Lets go of some.
    Release(Vec<u64>),
}

/// A message that cannot be understood.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(super) enum DecodeError {
    /// A required part is absent.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A value is out of its range.
    #[error("field `{field}` cannot be `{value}`")]
    Range { field: &'static str, value: f64 },
    /// A field has the wrong length.
    #[error("field `{field}` has {length} bytes, it must have {expected}")]
    Length { field: &'static str, length: usize, expected: usize },
    /// There are too many of something.
    #[error("field `{field}` has {count} entries, {most} are allowed")]
    Many { field: &'static str, count: usize, most: usize },
    /// A field is too long.
    #[error("field `{field}` has {length} bytes, {most} are allowed")]
    Long { field: &'static str, length: usize, most: usize },
    /// A place is beyond the end.
    #[error("field `{field}` is {value}, beyond the {most} bytes that there are")]
    Beyond { field: &'static str, value: u64, most: u64 },
    /// Content that can change has no digest.
    #[error("a blob with a digest cannot be writable")]
    WritableDigest,
}

/// Translates one message of a driver.
pub(super) fn spoken(session: SessionId, frame: v1::ClientFrame) -> Result<Spoken, DecodeError> {
    Ok(Spoken::Said(match frame.body.ok_or(DecodeError::Missing("body"))? {
        Body::DefineProfile(profile) => Said::DefineProfile {
            profile: profile.profile_id,
            settings: Profile {
                variables: profile.variables.into_iter().collect(),
                workers: Some(profile.workers).filter(|workers| *workers > 0),
                setup: profile.setup,
                limits: limits(profile.limits.unwrap_or_default())?,
                code: Arc::default(),
            },
            code: profile.code.iter().map(code).collect::<Result<_, _>>()?,
        },
        Body::OpenCall(call) => Said::OpenCall {
            call: call.call_id,
            profile: call.profile_id,
            settings: CallSettings {
                profile: ProfileId { session, profile: call.profile_id },
                max_running: Some(call.max_running).filter(|most| *most > 0),
                nesting_level: call.nesting_level,
                task_timeout: seconds("task_timeout_seconds", call.task_timeout_seconds)?,
                task_cpu: seconds("task_cpu_seconds", call.task_cpu_seconds)?,
                retries: call.retries,
            },
        },
        Body::SubmitBatch(batch) => Said::Submit {
            batch: batch.batch_id,
            call: batch.call_id,
            tasks: batch.tasks,
            payload: batch.payload,
            payload_bytes: batch.payload_bytes,
            uses: blob_uses(&batch.buffers, batch.shared)?,
        },
        Body::PayloadPart(part) => Said::Part { batch: part.batch_id, data: part.data },
        Body::CloseCall(call) => Said::CloseCall { call: call.call_id },
        Body::OfferBlob(offer) => return offered(offer).map(Spoken::Blob),
        Body::BlobPart(part) => {
            return Ok(Spoken::Blob(BlobSaid::Part { blob: part.blob_id, data: part.data }));
        }
        Body::ReleaseBlobs(blobs) => {
            return Ok(Spoken::Blob(BlobSaid::Release(blobs.blob_ids)));
        }
    }))
}

fn offered(offer: v1::OfferBlob) -> Result<BlobSaid, DecodeError> {
    let v1::OfferBlob { blob_id: blob, bytes, writable, sources, .. } = offer;
    if sources.len() > MAX_SOURCES {
        return Err(DecodeError::Many {
            field: "sources",
            count: sources.len(),
            most: MAX_SOURCES,
        });
    }
    if let Some(long) = sources.iter().find(|source| source.len() > MAX_ADDRESS_BYTES) {
        let (length, most) = (long.len(), MAX_ADDRESS_BYTES);
        return Err(DecodeError::Long { field: "sources", length, most });
    }
    if offer.digest.is_empty() {
        // Nobody can be asked for what has no name.
        let sources = Vec::new();
        return Ok(BlobSaid::Offer(Offer { blob, bytes, digest: None, writable, sources }));
    }
    if writable {
        return Err(DecodeError::WritableDigest);
    }
    let digest = Some(digest(&offer.digest)?);
    Ok(BlobSaid::Offer(Offer { blob, bytes, digest, writable, sources }))
}

fn digest(digest: &[u8]) -> Result<Digest, DecodeError> {
    let length = digest.len();
    Digest::try_from(digest).map_err(|_| DecodeError::Length {
        field: "digest",
        length,
        expected: 32,
    })
}

/// What another agent asks for.
pub(super) fn wanted(request: &v1::FetchContentRequest) -> Result<Wanted, DecodeError> {
    let v1::FetchContentRequest { bytes, offset, .. } = *request;
    let digest = digest(&request.digest)?;
    if bytes == 0 {
        return Err(DecodeError::Missing("bytes"));
    }
    if offset > bytes {
        return Err(DecodeError::Beyond { field: "offset", value: offset, most: bytes });
    }
    Ok(Wanted { digest, bytes, offset })
}

fn code(archive: &v1::CodeArchive) -> Result<CodeUse, DecodeError> {
    let (blob, working_directory) = (archive.blob_id, archive.working_directory);
    Ok(CodeUse { blob, digest: digest(&archive.digest)?, working_directory })
}

fn blob_uses(
    buffers: &[v1::BlobUse],
    shared: Vec<v1::SharedObject>,
) -> Result<BlobUses, DecodeError> {
    let uses = |buffers: &[v1::BlobUse]| {
        let uses = buffers.iter().map(|used| Ok((used.blob_id, access(used.access)?)));
        uses.collect::<Result<Vec<_>, DecodeError>>()
    };
    let shared =
        shared.into_iter().map(|object| Ok((object.pickle_blob_id, uses(&object.buffers)?)));
    Ok(BlobUses { buffers: uses(buffers)?, shared: shared.collect::<Result<_, _>>()? })
}

fn access(access: i32) -> Result<Access, DecodeError> {
    match v1::BlobAccess::try_from(access) {
        Ok(v1::BlobAccess::Read) => Ok(Access::Read),
        Ok(v1::BlobAccess::Copy) => Ok(Access::Copy),
        Ok(v1::BlobAccess::Write) => Ok(Access::Write),
        Ok(v1::BlobAccess::Unspecified) | Err(_) => {
            Err(DecodeError::Range { field: "access", value: f64::from(access) })
        }
    }
}

/// 0: none.
fn seconds(field: &'static str, value: f64) -> Result<Option<Duration>, DecodeError> {
    if value == 0.0 {
        return Ok(None);
    }
    let refused = DecodeError::Range { field, value };
    Duration::try_from_secs_f64(value).map(Some).map_err(|_| refused)
}

fn limits(limits: v1::Limits) -> Result<Limits, DecodeError> {
    let count = |count: u64| Some(count).filter(|count| *count > 0);
    let cpus = limits.cpus;
    if !(cpus.is_finite() && cpus >= 0.0) {
        return Err(DecodeError::Range { field: "cpus", value: cpus });
    }
    Ok(Limits {
        memory_bytes: count(limits.memory_bytes),
        cpus: Some(cpus).filter(|cpus| *cpus > 0.0),
        processes: count(limits.processes.into()),
        open_files: count(limits.open_files),
        scratch_bytes: count(limits.scratch_bytes),
        soft_memory: limits.soft_memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_frame_is_refused() {
        let error = spoken(SessionId(1), v1::ClientFrame { body: None }).unwrap_err();
        assert_eq!(error, DecodeError::Missing("body"));
    }

    #[test]
    fn an_offer_has_a_whole_digest_or_none_and_is_not_writable_with_one() {
        let offer = |digest: &'static [u8], writable| {
            let digest = Bytes::from_static(digest);
            offered(v1::OfferBlob { blob_id: 1, bytes: 2, digest, writable, ..Default::default() })
        };
        assert!(matches!(offer(&[], true), Ok(BlobSaid::Offer(Offer { digest: None, .. }))));
        assert!(matches!(
            offer(&[7; 32], false),
            Ok(BlobSaid::Offer(Offer { digest: Some(_), .. }))
        ));
        let short = DecodeError::Length { field: "digest", length: 31, expected: 32 };
        assert_eq!(offer(&[7; 31], false).unwrap_err(), short);
        assert_eq!(offer(&[7; 32], true).unwrap_err(), DecodeError::WritableDigest);
    }

    #[test]
    fn code_has_a_whole_digest() {
        let archive = |length| v1::CodeArchive {
            blob_id: 3,
            digest: vec![7; length].into(),
            working_directory: true,
        };
        let used = code(&archive(32)).unwrap();
        assert!(used.blob == 3 && used.digest == [7; 32] && used.working_directory);
        for length in [0, 33] {
            let refused = DecodeError::Length { field: "digest", length, expected: 32 };
            assert_eq!(code(&archive(length)).unwrap_err(), refused);
        }
    }

    #[test]
    fn only_so_many_sources_are_taken_and_none_without_a_digest() {
        let offer = |digest: &'static [u8], count| {
            let (digest, sources) = (Bytes::from_static(digest), vec!["a:1".to_owned(); count]);
            offered(v1::OfferBlob { blob_id: 1, bytes: 2, digest, sources, ..Default::default() })
        };
        let Ok(BlobSaid::Offer(nameless)) = offer(&[], 1) else { panic!() };
        assert_eq!(nameless.sources, Vec::<String>::new());
        let Ok(BlobSaid::Offer(named)) = offer(&[7; 32], MAX_SOURCES) else { panic!() };
        assert_eq!(named.sources.len(), MAX_SOURCES);
        assert!(matches!(offer(&[7; 32], MAX_SOURCES + 1), Err(DecodeError::Many { .. })));
        let (digest, sources) = (Bytes::from_static(&[7; 32]), vec!["x".repeat(301)]);
        let long = v1::OfferBlob { bytes: 2, digest, sources, ..Default::default() };
        assert!(matches!(offered(long), Err(DecodeError::Long { length: 301, .. })));
    }

    #[test]
    fn other_agents_name_a_whole_digest_and_a_place_within() {
        let wanted = |digest: &'static [u8], bytes, offset| {
            let digest = Bytes::from_static(digest);
            wanted(&v1::FetchContentRequest { digest, bytes, offset })
        };
        assert!(wanted(&[7; 32], 5, 5).is_ok());
        assert_eq!(wanted(&[7; 32], 0, 0).unwrap_err(), DecodeError::Missing("bytes"));
        let beyond = DecodeError::Beyond { field: "offset", value: 6, most: 5 };
        assert_eq!(wanted(&[7; 32], 5, 6).unwrap_err(), beyond);
        for path in [&b"../../etc/passwd"[..], b"", &[7; 33]] {
            let length = path.len();
            let refused = DecodeError::Length { field: "digest", length, expected: 32 };
            assert_eq!(wanted(path, 5, 0).unwrap_err(), refused);
        }
    }

    #[test]
    fn a_use_without_an_access_is_refused() {
        let used = v1::BlobUse { blob_id: 1, access: 0 };
        let shared = vec![v1::SharedObject { pickle_blob_id: 2, buffers: vec![used] }];
        let refused = DecodeError::Range { field: "access", value: 0.0 };
        assert_eq!(blob_uses(&[used], Vec::new()).unwrap_err(), refused);
        assert_eq!(blob_uses(&[], shared).unwrap_err(), refused);
    }

    #[test]
    fn no_seconds_are_none_and_negative_ones_are_refused() {
        let seconds = |value| seconds("task_timeout_seconds", value);
        assert_eq!(seconds(0.0), Ok(None));
        assert_eq!(seconds(1.5), Ok(Some(Duration::from_millis(1500))));
        assert!(seconds(-1.0).is_err() && seconds(f64::NAN).is_err());
    }

    #[test]
    fn no_limit_is_none_and_odd_cpus_are_refused() {
        let cpus = |cpus| limits(v1::Limits { cpus, ..Default::default() });
        assert_eq!(cpus(0.0), Ok(Limits::default()));
        assert_eq!(cpus(0.5).unwrap().cpus, Some(0.5));
        assert!(cpus(-1.0).is_err() && cpus(f64::NAN).is_err() && cpus(f64::INFINITY).is_err());
    }
}
