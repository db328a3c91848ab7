//! From what a driver says to complete commands: numbers are checked, payloads
//! put together, quotas charged.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::blobs::{BlobUses, SessionBlobs};
use super::ceilings::Ceilings;
use super::code::{CodeUse, pinned};
use super::command::{Batch, CallSettings, Command, Profile};
use super::quota::{Charge, Quota};
use crate::blobs::BatchBlobs;
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::identifiers::{BatchId, CallId, ProfileId, SessionId};

/// One thing a driver said, translated from the wire.
#[derive(Debug)]
pub(crate) enum Said {
    /// Describes workers.
    DefineProfile { profile: u64, settings: Profile, code: Vec<CodeUse> },
    /// Opens a call.
    OpenCall { call: u64, profile: u64, settings: CallSettings },
    /// Begins a batch; complete when `payload` has `payload_bytes` bytes.
    Submit { batch: u64, call: u64, tasks: u32, payload: Bytes, payload_bytes: u64, uses: BlobUses },
    /// Goes on with the batch submitted last.
    Part { batch: u64, data: Bytes },
    /// Ends a call.
    CloseCall { call: u64 },
}

/// A driver broke the rules of the conversation, which ends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A number was used before.
    #[error("{what} {number} is used twice")]
    UsedTwice { what: &'static str, number: u64 },
    /// A number was never defined.
    #[error("{what} {number} is not known")]
    Unknown { what: &'static str, number: u64 },
    /// A payload is longer or shorter than announced, or somebody else's.
    #[error("batch {batch}: {problem}")]
    Payload { batch: u64, problem: &'static str },
    /// A blob is not what it would have to be.
    #[error("blob {blob}: {problem}")]
    Blob { blob: u64, problem: &'static str },
}

/// The state of one conversation.
#[derive(Debug)]
pub(crate) struct Inbox {
    session: SessionId,
    quota: Quota,
    ceilings: Ceilings,
    blobs: Arc<SessionBlobs>,
    /// Each with the reason why batches of it are refused, if they are.
    profiles: HashMap<u64, Option<Failure>>,
    /// Likewise.
    calls: HashMap<u64, Option<Failure>>,
    last_batch: Option<u64>,
    partial: Option<Partial>,
}

/// A batch whose payload is not complete.
#[derive(Debug)]
struct Partial {
    batch: u64,
    call: u64,
    tasks: u32,
    missing: u64,
    /// What has come, and its share of the quota; or why it is refused, and
    /// then what still comes is dropped.
    held: Result<(Vec<Bytes>, BatchBlobs, Charge), Failure>,
}

impl Inbox {
    /// A conversation at its beginning.
    pub(crate) fn new(
        session: SessionId,
        quota: Quota,
        ceilings: Ceilings,
        blobs: Arc<SessionBlobs>,
    ) -> Self {
        let (profiles, calls) = (HashMap::new(), HashMap::new());
        Self { session, quota, ceilings, blobs, profiles, calls, last_batch: None, partial: None }
    }

    /// Takes one thing in; gives a command when one is complete.
    ///
    /// # Errors
    /// [`Violation`] when the driver broke the rules.
    pub(crate) fn take(&mut self, said: Said) -> Result<Option<Command>, Violation> {
        let session = self.session;
        match said {
            Said::Part { batch, data } => return self.part(batch, data),
            Said::CloseCall { call } => {
                if self.calls.remove(&call).is_none() {
                    return Err(Violation::Unknown { what: "call", number: call });
                }
                return Ok(Some(Command::CloseCall(CallId { session, call })));
            }
            Said::DefineProfile { .. } | Said::OpenCall { .. } | Said::Submit { .. } => {}
        }
        self.between_payloads()?;
        match said {
            Said::DefineProfile { profile, settings, code } => {
                let code = pinned(&code, &self.blobs)?;
                let limits = self.ceilings.limits(settings.limits);
                let granted = limits.and_then(|limits| Ok((limits, code?)));
                let refused = granted.as_ref().err().cloned();
                if self.profiles.insert(profile, refused).is_some() {
                    return Err(Violation::UsedTwice { what: "profile", number: profile });
                }
                let define = |(limits, code)| {
                    let id = ProfileId { session, profile };
                    Command::DefineProfile(id, Profile { limits, code, ..settings })
                };
                Ok(granted.ok().map(define))
            }
            Said::OpenCall { call, profile, settings } => {
                let Some(refused) = self.profiles.get(&profile) else {
                    return Err(Violation::Unknown { what: "profile", number: profile });
                };
                let granted = match refused {
                    Some(failure) => Err(failure.clone()),
                    None => self.ceilings.times(settings),
                };
                if self.calls.insert(call, granted.as_ref().err().cloned()).is_some() {
                    return Err(Violation::UsedTwice { what: "call", number: call });
                }
                let id = CallId { session, call };
                Ok(granted.ok().map(|settings| Command::OpenCall(id, settings)))
            }
            Said::Submit { batch, call, tasks, payload, payload_bytes, uses } => {
                self.begin(batch, call, tasks, payload_bytes, &uses)?;
                self.part(batch, payload)
            }
            Said::Part { .. } | Said::CloseCall { .. } => Ok(None),
        }
    }

    /// Checks that the payload of the batch submitted last is complete.
    ///
    /// # Errors
    /// [`Violation`] when more of it has to come first.
    pub(crate) fn between_payloads(&self) -> Result<(), Violation> {
        self.partial.as_ref().map_or(Ok(()), |partial| {
            let problem = "its payload is not complete";
            Err(Violation::Payload { batch: partial.batch, problem })
        })
    }

    fn begin(
        &mut self,
        batch: u64,
        call: u64,
        tasks: u32,
        bytes: u64,
        uses: &BlobUses,
    ) -> Result<(), Violation> {
        // Numbers grow, so that one number is enough to know that none is
        // used twice.
        if self.last_batch.is_some_and(|last| batch <= last) {
            return Err(Violation::UsedTwice { what: "batch", number: batch });
        }
        self.last_batch = Some(batch);
        if tasks == 0 {
            return Err(Violation::Payload { batch, problem: "it has no tasks" });
        }
        if bytes == 0 {
            return Err(Violation::Payload { batch, problem: "its payload is empty" });
        }
        let blobs = self.blobs.resolve(uses)?;
        let refused = self.calls.get(&call).cloned().flatten();
        let charge = refused.map_or_else(|| self.quota.charge(bytes), Err);
        let held = charge.and_then(|charge| Ok((Vec::new(), blobs?, charge)));
        self.partial = Some(Partial { batch, call, tasks, missing: bytes, held });
        Ok(())
    }

    fn part(&mut self, batch: u64, data: Bytes) -> Result<Option<Command>, Violation> {
        let Some(mut partial) = self.partial.take().filter(|partial| partial.batch == batch) else {
            return Err(Violation::Payload { batch, problem: "it expects no more bytes" });
        };
        let Some(missing) = partial.missing.checked_sub(data.len() as u64) else {
            return Err(Violation::Payload {
                batch,
                problem: "its payload is longer than announced",
            });
        };
        if let Ok((chunks, ..)) = &mut partial.held {
            chunks.push(data);
        }
        partial.missing = missing;
        if missing > 0 {
            self.partial = Some(partial);
            return Ok(None);
        }
        let session = self.session;
        let id = BatchId { session, batch };
        let call = CallId { session, call: partial.call };
        Ok(Some(match partial.held {
            Err(failure) => Command::Refuse(id, failure),
            Ok((payload, blobs, charge)) => Command::Submit(Batch {
                id,
                call,
                tasks: partial.tasks,
                payload,
                blobs: Arc::new(blobs),
                queued_at: Monotonic::now(),
                charge,
            }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::Store;
    use crate::limits::Limits;
    use crate::settings::{BlobOptions, RawSettings, SessionOptions, Settings};

    fn inbox() -> Inbox {
        let options = SessionOptions {
            max_sessions: 1,
            max_open_batches: 9,
            max_batch_bytes: 6,
            max_session_bytes: 99,
            max_silence: std::time::Duration::ZERO,
        };
        let store = Store::new(BlobOptions {
            memory_bytes: 1 << 20,
            spill_directory: std::env::temp_dir(),
            spill_bytes: 0,
        });
        let blobs = Arc::new(SessionBlobs::new(store));
        let raw =
            RawSettings { memory_limit_bytes: Some(":9".to_owned()), ..RawSettings::default() };
        let ceilings = Ceilings::new(Settings::resolve(raw).unwrap().limits);
        Inbox::new(SessionId(1), Quota::new(options), ceilings, blobs)
    }

    fn submit(batch: u64, payload: &'static [u8], payload_bytes: u64) -> Said {
        let payload = Bytes::from_static(payload);
        let uses = BlobUses::default();
        Said::Submit { batch, call: 1, tasks: 1, payload, payload_bytes, uses }
    }

    fn part(batch: u64, data: &'static [u8]) -> Said {
        Said::Part { batch, data: Bytes::from_static(data) }
    }

    #[test]
    fn a_payload_in_parts_becomes_one_batch() {
        let mut inbox = inbox();
        assert!(inbox.take(submit(1, b"ab", 6)).unwrap().is_none());
        assert!(inbox.take(part(1, b"cd")).unwrap().is_none());
        let Some(Command::Submit(batch)) = inbox.take(part(1, b"ef")).unwrap() else { panic!() };
        assert_eq!(batch.payload.concat(), b"abcdef");
    }

    #[test]
    fn a_batch_over_its_quota_is_refused_when_it_is_complete_and_holds_nothing() {
        let mut inbox = inbox();
        assert!(inbox.take(submit(1, b"abcd", 7)).unwrap().is_none());
        let refused = inbox.take(part(1, b"efg")).unwrap();
        assert!(matches!(refused, Some(Command::Refuse(id, _)) if id.batch == 1), "{refused:?}");
    }

    fn define(profile: u64, memory_bytes: u64) -> Said {
        let limits = Limits { memory_bytes: Some(memory_bytes), ..Limits::default() };
        let (variables, setup) = (Vec::new(), Bytes::new());
        let code = Arc::default();
        let settings = Profile { variables, workers: None, setup, limits, code };
        Said::DefineProfile { profile, settings, code: Vec::new() }
    }

    fn open(call: u64, profile: u64) -> Said {
        let settings = CallSettings {
            profile: ProfileId { session: SessionId(1), profile },
            max_running: None,
            nesting_level: 0,
            task_timeout: None,
            task_cpu: None,
            retries: None,
        };
        Said::OpenCall { call, profile, settings }
    }

    #[test]
    fn a_profile_that_asks_for_too_much_has_its_batches_refused_and_no_others() {
        let mut inbox = inbox();
        assert!(inbox.take(define(1, 10)).unwrap().is_none());
        assert!(inbox.take(open(1, 1)).unwrap().is_none());
        let refused = inbox.take(submit(1, b"x", 1)).unwrap();
        let Some(Command::Refuse(_, failure)) = refused else { panic!("{refused:?}") };
        assert!(failure.message.contains("a memory limit of 10 bytes"), "{}", failure.message);
        inbox.take(Said::CloseCall { call: 1 }).unwrap();

        let defined = inbox.take(define(2, 9)).unwrap();
        let Some(Command::DefineProfile(_, profile)) = defined else { panic!("{defined:?}") };
        assert_eq!(profile.limits.memory_bytes, Some(9));
        assert!(matches!(inbox.take(open(1, 2)).unwrap(), Some(Command::OpenCall(..))));
        let taken = inbox.take(submit(2, b"x", 1)).unwrap();
        assert!(matches!(taken, Some(Command::Submit(_))), "{taken:?}");
        let twice = Violation::UsedTwice { what: "profile", number: 1 };
        assert_eq!(inbox.take(define(1, 9)).unwrap_err(), twice);
    }

    #[test]
    fn a_driver_that_breaks_the_rules_is_told_which() {
        let payload = |batch, problem| Violation::Payload { batch, problem };
        let cases: [(Vec<Said>, Violation); 6] = [
            (vec![part(1, b"x")], payload(1, "it expects no more bytes")),
            (vec![submit(1, b"xy", 1)], payload(1, "its payload is longer than announced")),
            (
                vec![submit(1, b"x", 2), submit(2, b"x", 1)],
                payload(1, "its payload is not complete"),
            ),
            (
                vec![submit(2, b"x", 1), submit(2, b"x", 1)],
                Violation::UsedTwice { what: "batch", number: 2 },
            ),
            (vec![submit(1, b"", 0)], payload(1, "its payload is empty")),
            (vec![Said::CloseCall { call: 5 }], Violation::Unknown { what: "call", number: 5 }),
        ];
        for (conversation, expected) in cases {
            let mut inbox = inbox();
            let results: Vec<_> = conversation.into_iter().map(|said| inbox.take(said)).collect();
            let last = results.into_iter().last().unwrap();
            assert_eq!(last.unwrap_err(), expected);
        }
    }
}
