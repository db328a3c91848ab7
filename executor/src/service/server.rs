//! The gRPC server around the service, with its bounds.

use std::time::Duration;

use clutch_protocol::MAX_MESSAGE_BYTES;
use clutch_protocol::v1::executor_server::ExecutorServer;
use tokio::sync::oneshot;
use tonic::transport::Server;

use super::executor_service::ExecutorService;
use super::listener::Connections;

/// Bytes that one stream may send before they are read.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// How often a silent connection is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to that may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the connections until told to stop, and then until each has been told
/// everything.
pub(crate) async fn serve_grpc(
    service: ExecutorService,
    connections: Connections,
    stop: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    let service = ExecutorServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES * 2)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming_shutdown(connections, async {
            // A teller that is gone means the same.
            stop.await.ok();
        })
        .await
}
