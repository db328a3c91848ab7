//! The gRPC server around the service, with its bounds.

use std::time::Duration;

use clutch_protocol::MAX_MESSAGE_BYTES;
use clutch_protocol::v1::executor_server::{Executor, ExecutorServer};
use tokio::sync::oneshot;
use tonic::transport::Server;

use super::listener::Connections;
use super::said_all::Noting;

/// Bytes that one stream may send before they are read.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// How often a silent connection is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to that may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the connections until told to stop, and then until each has been told
/// everything.
pub(crate) async fn serve_grpc(
    service: impl Executor,
    connections: Connections,
    stop: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    let service = ExecutorServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES * 2)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(Noting(service))
        .serve_with_incoming_shutdown(connections, async {
            // A teller that is gone means the same.
            stop.await.ok();
        })
        .await
}

#[cfg(test)]
mod tests {
    use clutch_protocol::v1;
    use clutch_protocol::v1::executor_client::ExecutorClient;
    use hyper_util::rt::TokioIo;
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::transport::{Channel, Endpoint};
    use tonic::{Request, Response, Status, Streaming};

    use super::*;
    use crate::service::hung_up::Watched;

    /// Answers one question, and panics at the other.
    struct Fragile;

    #[tonic::async_trait]
    impl Executor for Fragile {
        type AttachStream = ReceiverStream<Result<v1::AgentEnvelope, Status>>;

        async fn open_session(
            &self,
            _request: Request<v1::OpenSessionRequest>,
        ) -> Result<Response<v1::OpenSessionResponse>, Status> {
            panic!("on purpose");
        }

        async fn attach(
            &self,
            _request: Request<Streaming<v1::ClientEnvelope>>,
        ) -> Result<Response<Self::AttachStream>, Status> {
            Err(Status::unimplemented("not here"))
        }

        type FetchContentStream = ReceiverStream<Result<v1::ContentPart, Status>>;

        async fn fetch_content(
            &self,
            _request: Request<v1::FetchContentRequest>,
        ) -> Result<Response<Self::FetchContentStream>, Status> {
            Err(Status::unimplemented("not here"))
        }

        async fn drain(
            &self,
            _request: Request<v1::DrainRequest>,
        ) -> Result<Response<v1::DrainResponse>, Status> {
            Err(Status::unimplemented("not here"))
        }

        async fn get_status(
            &self,
            _request: Request<v1::GetStatusRequest>,
        ) -> Result<Response<v1::GetStatusResponse>, Status> {
            Ok(Response::new(v1::GetStatusResponse { pid: 7, ..Default::default() }))
        }
    }

    async fn connect(door: &mpsc::Sender<Result<Watched<UnixStream>, std::io::Error>>) -> Channel {
        let (here, there) = UnixStream::pair().unwrap();
        door.send(Ok(Watched::new(there))).await.unwrap();
        let mut here = Some(here);
        let connector = tower::service_fn(move |_| {
            let stream = here.take().map(TokioIo::new);
            async move { stream.ok_or_else(|| std::io::Error::other("connects once")) }
        });
        let endpoint = Endpoint::from_static("http://agent.invalid");
        endpoint.connect_with_connector(connector).await.unwrap()
    }

    #[tokio::test]
    async fn a_panic_fails_its_request_and_nothing_else() {
        let (door, connections) = mpsc::channel(2);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve_grpc(Fragile, ReceiverStream::new(connections), stopped));
        let mut victim = ExecutorClient::new(connect(&door).await);
        let mut other = ExecutorClient::new(connect(&door).await);
        let status = || v1::GetStatusRequest::default();
        victim.open_session(v1::OpenSessionRequest::default()).await.unwrap_err();
        for client in [&mut victim, &mut other] {
            assert_eq!(client.get_status(status()).await.unwrap().into_inner().pid, 7);
        }
        drop((victim, other));
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
