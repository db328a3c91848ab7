//! From the wire to what the rooms understand, refusing by field name.

use std::time::Duration;

use clutch_protocol::v1::{self, client_frame::Body};

use crate::identifiers::{ProfileId, SessionId};
use crate::session::{CallSettings, Profile, Said};

/// A message that cannot be understood.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(super) enum DecodeError {
    /// A required part is absent.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A value is out of its range.
    #[error("field `{field}` cannot be `{value}`")]
    Range { field: &'static str, value: f64 },
}

/// Translates one message of a driver.
pub(super) fn said(session: SessionId, frame: v1::ClientFrame) -> Result<Said, DecodeError> {
    Ok(match frame.body.ok_or(DecodeError::Missing("body"))? {
        Body::DefineProfile(profile) => Said::DefineProfile {
            profile: profile.profile_id,
            settings: Profile {
                variables: profile.variables.into_iter().collect(),
                workers: Some(profile.workers).filter(|workers| *workers > 0),
                setup: profile.setup,
            },
        },
        Body::OpenCall(call) => Said::OpenCall {
            call: call.call_id,
            profile: call.profile_id,
            settings: CallSettings {
                profile: ProfileId { session, profile: call.profile_id },
                max_running: Some(call.max_running).filter(|most| *most > 0),
                nesting_level: call.nesting_level,
                task_timeout: task_timeout(call.task_timeout_seconds)?,
            },
        },
        Body::SubmitBatch(batch) => Said::Submit {
            batch: batch.batch_id,
            call: batch.call_id,
            tasks: batch.tasks,
            payload: batch.payload,
            payload_bytes: batch.payload_bytes,
        },
        Body::PayloadPart(part) => Said::Part { batch: part.batch_id, data: part.data },
        Body::CloseCall(call) => Said::CloseCall { call: call.call_id },
        Body::OfferBlob(_) | Body::BlobPart(_) | Body::ReleaseBlobs(_) => {
            return Err(DecodeError::Missing("blob store"));
        }
    })
}

fn task_timeout(seconds: f64) -> Result<Option<Duration>, DecodeError> {
    if seconds == 0.0 {
        return Ok(None);
    }
    let refused = DecodeError::Range { field: "task_timeout_seconds", value: seconds };
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_frame_is_refused() {
        let error = said(SessionId(1), v1::ClientFrame { body: None }).unwrap_err();
        assert_eq!(error, DecodeError::Missing("body"));
    }

    #[test]
    fn no_task_timeout_is_none_and_a_negative_one_is_refused() {
        assert_eq!(task_timeout(0.0), Ok(None));
        assert_eq!(task_timeout(1.5), Ok(Some(Duration::from_millis(1500))));
        assert!(task_timeout(-1.0).is_err() && task_timeout(f64::NAN).is_err());
    }
}
