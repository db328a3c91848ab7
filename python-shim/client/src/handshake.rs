//! Opens a session on an agent.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::time::Duration;

use clutch_access::{Access, Address, Channel, ConnectError, Keepalive, KeepaliveError};
use clutch_protocol::MAX_MESSAGE_BYTES;
use clutch_protocol::v1::executor_client::ExecutorClient;
use clutch_protocol::v1::{self, open_session_response};
use tonic::{Code, Status};

/// Longer than an agent waits for a zygote.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);

/// Pauses, in milliseconds, after connections that ended before there was an answer: an
/// agent to which very many come at once may not get to all in time.
const PAUSES: [u64; 2] = [300, 1000];

/// Bytes that an agent may send before they are read.
const WINDOW_BYTES: u32 = 8 << 20;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The agent cannot be reached, or did not answer.
    #[error("{0}")]
    Unreachable(String),
    /// It, or we, do not accept the other's credentials. Another try would end in the
    /// same way.
    #[error("{0}")]
    Denied(String),
    /// It answered that it will not.
    #[error("{}", .0.message)]
    Refused(Box<v1::Refusal>),
}

/// How to reach an agent.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) access: Option<Access>,
    keepalive: Keepalive,
}

impl Target {
    /// How a driver does, by its environment.
    pub(crate) fn new(address: &Address, access: Option<&Access>) -> Result<Self, KeepaliveError> {
        let keepalive = Keepalive::from_environment()?;
        Ok(Self { address: address.clone(), access: access.cloned(), keepalive })
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> Result<ExecutorClient<Channel>, ConnectError> {
        let access = self.access.as_ref();
        let channel =
            clutch_access::connect(&self.address, access, self.keepalive, WINDOW_BYTES).await?;
        Ok(ExecutorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }
}

/// Connects and leases room.
pub(crate) async fn open(
    target: &Target,
    request: v1::OpenSessionRequest,
) -> Result<(ExecutorClient<Channel>, v1::SessionOpened), OpenError> {
    for pause in PAUSES {
        match attempt(target, request.clone()).await {
            Err(Failed { may_pass: true, .. }) => {
                let pause = Duration::from_millis(pause).mul_f64(0.5 + dice());
                tokio::time::sleep(pause).await;
            }
            other => return other.map_err(|failed| failed.error),
        }
    }
    attempt(target, request).await.map_err(|failed| failed.error)
}

/// An attempt that came to nothing.
struct Failed {
    error: OpenError,
    /// The next one, soon, may do better.
    may_pass: bool,
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self { error, may_pass: false }
    }
}

async fn attempt(
    target: &Target,
    request: v1::OpenSessionRequest,
) -> Result<(ExecutorClient<Channel>, v1::SessionOpened), Failed> {
    let mut client = target.connect().await.map_err(|error| {
        let why = chain(&error);
        let may_pass = error.may_pass() && was_cut(&error);
        let error =
            if error.may_pass() { OpenError::Unreachable(why) } else { OpenError::Denied(why) };
        Failed { error, may_pass }
    })?;
    let answer = tokio::time::timeout(OPEN_PATIENCE, client.open_session(request)).await;
    let response = match answer {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            let error = not_opened(&status, target);
            let unreachable = matches!(error, OpenError::Unreachable(_));
            let may_pass = unreachable && target.address.unix().is_none() && is_transport(&status);
            return Err(Failed { error, may_pass });
        }
        Err(_) => {
            let seconds = OPEN_PATIENCE.as_secs();
            let why = format!("DEADLINE_EXCEEDED: no answer within {seconds} s");
            return Err(OpenError::Unreachable(why).into());
        }
    };
    match response.result {
        Some(open_session_response::Result::Opened(opened)) => Ok((client, opened)),
        Some(open_session_response::Result::Refusal(refusal)) => {
            Err(OpenError::Refused(Box::new(refusal)).into())
        }
        None => Err(OpenError::Unreachable("it answered neither yes nor no".to_owned()).into()),
    }
}

/// Why a session was not opened on a connection that there was.
fn not_opened(status: &Status, target: &Target) -> OpenError {
    let said = describe(status);
    let Target { address, access, .. } = target;
    let plain =
        access.as_ref().is_some_and(|access| !access.is_encrypted()) && address.unix().is_none();
    if status.code() == Code::Unauthenticated {
        let why = "the agent does not accept the token of the access file";
        return OpenError::Denied(format!("{why} ({said})"));
    }
    if status.code() == Code::PermissionDenied {
        return OpenError::Denied(said);
    }
    if plain && is_transport(status) {
        return OpenError::Denied(format!(
            "the access file has no certificates, and an agent that wants TLS ends connections of \
             plain text as this one ended ({said})"
        ));
    }
    OpenError::Unreachable(said)
}

/// Whether the other side ended a connection that there was.
fn was_cut(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    has_kind(error, &[BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof])
}

/// Whether an error of the operating system of such a kind is behind it.
pub(crate) fn has_kind(error: &(dyn std::error::Error + 'static), kinds: &[io::ErrorKind]) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind.is_some_and(|kind| kinds.contains(&kind)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// From 0 to 1; good enough to spread attempts.
pub(crate) fn dice() -> f64 {
    let number = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(number >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// Whether it comes from the connection and not from the agent.
fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// A gRPC error in words, for example `UNAVAILABLE: connection reset`.
pub(crate) fn describe(status: &Status) -> String {
    let code = format!("{:?}", status.code());
    let mut name = String::new();
    for letter in code.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    let source = std::error::Error::source(status);
    // What TLS says of that is long.
    if source.is_some_and(|source| has_kind(source, &[io::ErrorKind::UnexpectedEof])) {
        return format!("{name}: the other end closed the connection");
    }
    let source = source.map(chain);
    match source.filter(|source| !status.message().contains(source.as_str())) {
        Some(source) => format!("{name}: {} ({source})", status.message()),
        None => format!("{name}: {}", status.message()),
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_described_as_grpc_names_it() {
        let status = Status::invalid_argument("call 5 is not known");
        assert_eq!(describe(&status), "INVALID_ARGUMENT: call 5 is not known");
    }
}
