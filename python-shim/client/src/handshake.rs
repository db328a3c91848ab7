//! Opens a session on an agent.

use std::time::Duration;

use clutch_protocol::MAX_MESSAGE_BYTES;
use clutch_protocol::v1::executor_client::ExecutorClient;
use clutch_protocol::v1::{self, open_session_response};
use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::address::Address;

/// Longer than an agent waits for a zygote.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);

/// Without a sign of life, a cut network is never noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that an agent may send before they are read.
const WINDOW_BYTES: u32 = 8 << 20;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The agent cannot be reached, or did not answer.
    #[error("{0}")]
    Unreachable(String),
    /// It answered that it will not.
    #[error("{}", .0.message)]
    Refused(Box<v1::Refusal>),
}

/// Connects and leases room.
pub(crate) async fn open(
    address: &Address,
    request: v1::OpenSessionRequest,
) -> Result<(ExecutorClient<Channel>, v1::SessionOpened), OpenError> {
    let unreachable = |error: tonic::transport::Error| OpenError::Unreachable(chain(&error));
    let channel = connect(address).await.map_err(unreachable)?;
    let mut client = client(channel);
    let answer = tokio::time::timeout(OPEN_PATIENCE, client.open_session(request)).await;
    let response = match answer {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(OpenError::Unreachable(describe(&status))),
        Err(_) => {
            let seconds = OPEN_PATIENCE.as_secs();
            let why = format!("DEADLINE_EXCEEDED: no answer within {seconds} s");
            return Err(OpenError::Unreachable(why));
        }
    };
    match response.result {
        Some(open_session_response::Result::Opened(opened)) => Ok((client, opened)),
        Some(open_session_response::Result::Refusal(refusal)) => {
            Err(OpenError::Refused(Box::new(refusal)))
        }
        None => Err(OpenError::Unreachable("it answered neither yes nor no".to_owned())),
    }
}

pub(crate) fn client(channel: Channel) -> ExecutorClient<Channel> {
    ExecutorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Connects to an agent.
pub(crate) async fn connect(address: &Address) -> Result<Channel, tonic::transport::Error> {
    let address = address.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let connected = address.connect().and_then(|stream| {
            stream.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(stream).map(TokioIo::new)
        });
        std::future::ready(connected)
    });
    // The name matters to nobody: the connector knows where to go.
    Endpoint::from_static("http://localhost")
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 2)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
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
    let source = std::error::Error::source(status).map(chain);
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
