//! The gRPC server around the service, with its bounds.

use clutch_protocol::MAX_MESSAGE_BYTES;
use clutch_protocol::v1::executor_server::{Executor, ExecutorServer};
use tokio::sync::oneshot;
use tonic::transport::Server;

use super::entry::Entry;
use super::gate::GateLayer;
use super::listener::Connections;

/// Bytes that one stream may send before they are read.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// Requests of one connection at the same time.
const MAX_STREAMS: u32 = 64;

/// Bytes of one request's headers.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Requests that a peer took back before we got to them, and errors that it made
/// in requests; more end its connection.
const MAX_RESETS: usize = 20;
const MAX_ERRORS: usize = 64;

/// Serves the connections until told to stop, and then until each has been told
/// everything.
pub(crate) async fn serve_grpc(
    service: impl Executor,
    connections: Connections,
    entry: Entry,
    stop: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    let keepalive = entry.keepalive();
    let service = ExecutorServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES * 2)
        .http2_keepalive_interval(Some(keepalive.interval))
        .http2_keepalive_timeout(Some(keepalive.timeout))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERRORS))
        .layer(GateLayer(entry))
        .add_service(service)
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
    use crate::service::connection::Connection;
    use crate::settings::ConnectionOptions;

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

    async fn connect(door: &mpsc::Sender<Result<Connection, std::io::Error>>) -> Channel {
        let (here, there) = UnixStream::pair().unwrap();
        let entry = Entry::new(None, ConnectionOptions::default());
        door.send(Ok(Connection::local(there, entry))).await.unwrap();
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
        let entry = Entry::new(None, ConnectionOptions::default());
        let server =
            tokio::spawn(serve_grpc(Fragile, ReceiverStream::new(connections), entry, stopped));
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
