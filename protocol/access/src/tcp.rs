//! What both sides ask of their kernels for a connection on TCP.

use std::io;

use rustix::net::sockopt::set_tcp_user_timeout;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::Keepalive;

/// Bytes that may wait in the kernel before they are sent. Signs of life go behind
/// them: with megabytes there, a slow network would be taken for a dead one. What was
/// sent and is not acknowledged does not count, so fast networks stay fast.
const MAX_UNSENT_BYTES: u32 = 128 << 10;

/// Prepares a connection.
///
/// # Errors
/// When the kernel refuses.
pub fn prepare(stream: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
    let patience = u32::try_from(keepalive.unacknowledged().as_millis()).unwrap_or(u32::MAX);
    set_tcp_user_timeout(stream, patience)?;
    Ok(())
}
