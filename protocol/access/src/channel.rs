//! Channels to agents that show what the agent asks for.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Endpoint, Uri};
use tonic::{Request, Status};

use crate::access::ClientTls;
use crate::address::Place;
use crate::{Access, Address, Keepalive, Socket, Watched};

/// How long a connection may take, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A channel that authenticates each request. It connects again by itself.
pub type Channel = InterceptedService<tonic::transport::Channel, Bearer>;

/// Adds the token to requests.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(access: Option<&Access>) -> Self {
        let header = access.and_then(|access| {
            let text = zeroize::Zeroizing::new(format!("Bearer {}", *access.token.text()));
            let mut header = MetadataValue::try_from(text.as_str()).ok()?;
            // Kept out of compression tables and of anything that prints it.
            header.set_sensitive(true);
            Some(header)
        });
        Self(header)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody can be reached there, now.
    #[error("{0}")]
    Unreachable(#[source] io::Error),
    /// It took too long.
    #[error("no answer within {} s", CONNECT_WITHIN.as_secs())]
    Silent,
    /// A TCP address was given without credentials.
    #[error("an agent on TCP needs an access file, and none was given")]
    NoAccess,
    /// A secret would go over a network as plain text.
    #[error(
        "the access file has no certificates, so it is for loopback only, and the agent is not \
         on this machine"
    )]
    PlainText,
    /// The host's name cannot be in a certificate.
    #[error("the host's name cannot be in a certificate")]
    Name,
    /// We do not trust who answered.
    #[error("the agent's certificate is not accepted: {0}")]
    Untrusted(rustls::Error),
    /// It does not trust us.
    #[error("the agent does not accept the certificate: {0}")]
    Refused(rustls::Error),
    /// It does not speak TLS, or not ours.
    #[error("it does not speak TLS: {0}")]
    NotTls(rustls::Error),
    /// The transport does not start.
    #[error("{0}")]
    Transport(#[source] tonic::transport::Error),
}

impl ConnectError {
    /// Whether trying again, with the same credentials, may help.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Silent | Self::Transport(_))
    }

    fn from_io(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls.cloned() {
            None => Self::Unreachable(error),
            Some(error @ rustls::Error::AlertReceived(_)) => Self::Refused(error),
            Some(error @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted(error),
            Some(error) => Self::NotTls(error),
        }
    }
}

/// Connects to an agent: a driver's side, an operator's, or that of an agent which
/// fetches from another one.
///
/// `access` is what the agent asks for on TCP; it is not used on Unix sockets.
/// `window_bytes` is how much the agent may send on one stream before it is read.
///
/// # Errors
/// [`ConnectError`], of which some are not worth another try.
pub async fn connect(
    address: &Address,
    access: Option<&Access>,
    keepalive: Keepalive,
    window_bytes: u32,
) -> Result<Channel, ConnectError> {
    let dialer = Dialer {
        address: address.clone(),
        tls: access.and_then(|access| access.tls.clone()),
        has_access: access.is_some(),
        keepalive,
    };
    // Errors of the first one are told as they are.
    let first = Arc::new(Mutex::new(Some(dialer.dial().await?)));
    let connector = tower::service_fn(move |_: Uri| {
        let (first, dialer) = (Arc::clone(&first), dialer.clone());
        async move {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            match ready {
                Some(socket) => Ok::<_, ConnectError>(TokioIo::new(socket)),
                None => dialer.dial().await.map(TokioIo::new),
            }
        }
    });
    // The name matters to nobody: the connector knows where to go.
    let channel = Endpoint::from_static("http://localhost")
        .initial_stream_window_size(window_bytes)
        .initial_connection_window_size(window_bytes.saturating_mul(2))
        .http2_keep_alive_interval(keepalive.interval)
        .keep_alive_timeout(keepalive.timeout)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(ConnectError::Transport)?;
    // A Unix socket shows who calls.
    let shown = if address.unix().is_some() { None } else { access };
    Ok(Channel::new(channel, Bearer::new(shown)))
}

/// Knows how to reach one agent.
#[derive(Clone)]
struct Dialer {
    address: Address,
    tls: Option<ClientTls>,
    has_access: bool,
    keepalive: Keepalive,
}

impl Dialer {
    async fn dial(&self) -> Result<Socket, ConnectError> {
        match self.address.place() {
            Place::Unix(socket) => {
                // At once or not at all.
                let stream = StdUnixStream::connect_addr(socket).and_then(|stream| {
                    stream.set_nonblocking(true)?;
                    UnixStream::from_std(stream)
                });
                stream
                    .map(|stream| Socket::Unix(Watched::new(stream, self.keepalive)))
                    .map_err(ConnectError::Unreachable)
            }
            Place::Tcp { host, port } => {
                let dialed = timeout(CONNECT_WITHIN, self.dial_tcp(host, *port)).await;
                dialed.unwrap_or(Err(ConnectError::Silent))
            }
        }
    }

    async fn dial_tcp(&self, host: &str, port: u16) -> Result<Socket, ConnectError> {
        if !self.has_access {
            return Err(ConnectError::NoAccess);
        }
        let stream = TcpStream::connect((host, port)).await.map_err(ConnectError::Unreachable)?;
        crate::prepare(&stream, self.keepalive).map_err(ConnectError::Unreachable)?;
        let Some(tls) = &self.tls else {
            let peer = stream.peer_addr().map_err(ConnectError::Unreachable)?;
            if !peer.ip().to_canonical().is_loopback() {
                return Err(ConnectError::PlainText);
            }
            return Ok(Socket::Tcp(Watched::new(stream, self.keepalive)));
        };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Name)?,
        };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let mut stream = connector
            .connect(name, Watched::new(stream, self.keepalive))
            .await
            .map_err(ConnectError::from_io)?;
        // In TLS 1.3 we are done before the agent has looked at our certificate. Its
        // first word tells; it is left to be read.
        if stream.fill_buf().await.map_err(ConnectError::from_io)?.is_empty() {
            return Err(ConnectError::Unreachable(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Socket::Tls(Box::new(TlsStream::Client(stream))))
    }
}
