//! Reaches an agent again after a connection broke.

use std::io::ErrorKind::{ConnectionRefused, NotFound};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clutch_access::Channel;
use clutch_protocol::v1;
use clutch_protocol::v1::executor_client::ExecutorClient;
use tonic::{Code, Status, Streaming};

use crate::conversation::Envelopes;
use crate::handshake::{Target, chain, describe, dice, has_kind};
use crate::patience::{Failed, Patience};
use crate::session::Shared;

/// Where a session is.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    pub(crate) target: Target,
    pub(crate) session_id: String,
}

/// A stream over which the agent speaks.
pub(crate) struct Talk {
    /// What came with its answer.
    pub(crate) first: Option<v1::AgentEnvelope>,
    pub(crate) stream: Streaming<v1::AgentEnvelope>,
    /// Keeps the connection.
    pub(crate) client: ExecutorClient<Channel>,
}

/// Attempts since something came through.
#[derive(Debug)]
pub(crate) struct Trial {
    since: Instant,
    patience: Patience,
    progress: u64,
}

impl Trial {
    /// Those after a connection broke, the last attempts being these. A connection
    /// that breaks again and again with nothing come through is no better than
    /// none.
    pub(crate) fn after(last: Option<Self>, progress: u64, silence: Duration) -> Self {
        last.filter(|last| last.progress == progress).unwrap_or_else(|| {
            let patience = Patience::new(silence);
            Self { since: Instant::now(), patience, progress }
        })
    }
}

/// Tries until the conversation goes on.
///
/// # Errors
/// When it never will, and why.
pub(crate) async fn persist<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    agent: &Whereabouts,
    trial: &mut Trial,
) -> Result<Talk, String> {
    let Trial { since, patience, .. } = trial;
    loop {
        let pause = patience.pause(since.elapsed(), dice())?;
        tokio::time::sleep(pause).await;
        // An attempt is never given up: that would end the session, if it has
        // been heard. Keepalive finds out when it has not.
        match attempt(shared, agent).await {
            Ok(stream) => return Ok(stream),
            Err(failure) => {
                if let Some(why) = patience.failed(since.elapsed(), failure) {
                    return Err(why);
                }
            }
        }
    }
}

async fn attempt<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    agent: &Whereabouts,
) -> Result<Talk, Failed> {
    let mut client = agent.target.connect().await.map_err(|error| {
        let why = chain(&error);
        match has_kind(&error, &[ConnectionRefused, NotFound]) {
            _ if !error.may_pass() => Failed::ForGood(why),
            true => Failed::Refused(why),
            false => Failed::ForNow(why),
        }
    })?;
    let resume = shared.lock().link.reconnect();
    let session_id = agent.session_id.clone();
    let first = v1::ClientEnvelope { session_id, resume: Some(resume), ..Default::default() };
    let attached = client.attach(Envelopes::new(shared, first)).await;
    let mut stream = attached.map_err(|status| failed(&status))?.into_inner();
    let answer = stream.message().await.map_err(|status| failed(&status))?;
    let told = answer.and_then(|mut first| Some((first.resumed.take()?, first)));
    let Some((resumed, first)) = told else {
        return Err(Failed::ForGood("it did not say where to go on".to_owned()));
    };
    let mut state = shared.lock();
    let gone_on = state.link.resume(resumed);
    gone_on.map_err(|miscount| Failed::ForGood(format!("it broke the contract: {miscount}")))?;
    shared.wake(state);
    Ok(Talk { first: Some(first), stream, client })
}

/// What a gRPC error means for the next attempt.
pub(crate) fn failed(status: &Status) -> Failed {
    let why = describe(status);
    match status.code() {
        Code::NotFound
        | Code::AlreadyExists
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Failed::ForGood(why),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Failed::ForNow(why),
    }
}
