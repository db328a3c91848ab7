//! Other agents, as this one talks to them.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use clutch_access::{Access, Address, Channel, Keepalive, connect};
use clutch_protocol::v1;
use clutch_protocol::v1::executor_client::ExecutorClient;
use tokio_stream::StreamExt;

use crate::blobs::{Asked, Parts, PeerError, Peers, Wanted};
use crate::error_chain::chain;

/// Agents that are talked to at once.
const MAX_CHANNELS: usize = 64;

/// How long a channel that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Bytes that another agent may send before they are read.
const WINDOW_BYTES: u32 = 4 << 20;

/// What becomes of connecting.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = Result<Channel, PeerError>> + Send>>;

/// Ways to other agents: the one place that knows how this agent proves who it
/// is.
pub(crate) trait Roads: fmt::Debug + Send + Sync {
    /// Connects to an agent.
    fn connect(&self, address: &str) -> Connecting;
}

/// Agents by gRPC.
#[derive(Debug)]
pub(crate) struct GrpcPeers {
    roads: Box<dyn Roads>,
    pool: Arc<Pool>,
}

/// Channels, by address.
#[derive(Debug)]
struct Pool {
    channels: Mutex<HashMap<String, Known>>,
    /// How long a channel that nobody uses is kept.
    idle: Duration,
}

#[derive(Debug)]
struct Known {
    channel: Channel,
    /// How many use it.
    used: usize,
    /// Grows with each use.
    turn: u64,
}

/// A channel in use. With the last one it becomes idle.
#[derive(Debug)]
struct Borrowed {
    channel: Channel,
    address: String,
    pool: Weak<Pool>,
}

impl GrpcPeers {
    pub(crate) fn new(roads: Box<dyn Roads>) -> Self {
        Self { roads, pool: Arc::new(Pool::new()) }
    }
}

impl Peers for GrpcPeers {
    fn ask(&self, source: String, wanted: Wanted) -> Asked {
        let borrowed = self.pool.borrow(&source);
        let connecting = borrowed.is_none().then(|| self.roads.connect(&source));
        let pool = Arc::clone(&self.pool);
        Box::pin(async move {
            let borrowed = match (borrowed, connecting) {
                (Some(borrowed), _) => borrowed,
                (None, Some(connecting)) => pool.lend(source, connecting.await?)?,
                (None, None) => return Err(PeerError("there is no way to it".to_owned())),
            };
            fetch(borrowed, wanted).await
        })
    }
}

async fn fetch(borrowed: Borrowed, wanted: Wanted) -> Result<Parts, PeerError> {
    let Wanted { digest, bytes, offset } = wanted;
    let digest = bytes::Bytes::copy_from_slice(&digest);
    let mut client = ExecutorClient::new(borrowed.channel.clone());
    let request = v1::FetchContentRequest { digest, bytes, offset };
    let parts = client.fetch_content(request).await.map_err(|status| said(&status))?.into_inner();
    Ok(Box::pin(parts.map(move |part| {
        // In use as long as parts come.
        let _in_use = &borrowed;
        part.map(|part| part.data).map_err(|status| said(&status))
    })))
}

fn said(status: &tonic::Status) -> PeerError {
    PeerError(format!("{:?}: {}", status.code(), status.message()))
}

impl Pool {
    fn new() -> Self {
        Self { channels: Mutex::default(), idle: IDLE }
    }

    fn borrow(self: &Arc<Self>, address: &str) -> Option<Borrowed> {
        let mut channels = self.channels();
        let known = channels.get_mut(address)?;
        known.used += 1;
        known.turn += 1;
        let (channel, pool) = (known.channel.clone(), Arc::downgrade(self));
        Some(Borrowed { channel, address: address.to_owned(), pool })
    }

    /// Two that connect at once share what came last.
    fn lend(self: &Arc<Self>, address: String, channel: Channel) -> Result<Borrowed, PeerError> {
        let mut channels = self.channels();
        if channels.len() >= MAX_CHANNELS && !channels.contains_key(&address) {
            return Err(PeerError(format!("this agent talks to {MAX_CHANNELS} others already")));
        }
        let (used, turn) = channels.get(&address).map_or((0, 0), |known| (known.used, known.turn));
        let known = Known { channel: channel.clone(), used: used + 1, turn: turn + 1 };
        channels.insert(address.clone(), known);
        Ok(Borrowed { channel, address, pool: Arc::downgrade(self) })
    }

    /// Closes a channel that was not used since.
    fn close(&self, address: &str, turn: u64) {
        let mut channels = self.channels();
        let idle = |known: &Known| known.used == 0 && known.turn == turn;
        if channels.get(address).is_some_and(idle) {
            channels.remove(address);
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut channels = pool.channels();
        let Some(known) = channels.get_mut(&self.address) else { return };
        known.used -= 1;
        if known.used > 0 {
            return;
        }
        let (turn, idle) = (known.turn, pool.idle);
        drop(channels);
        let (pool, address) = (Weak::clone(&self.pool), std::mem::take(&mut self.address));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(idle).await;
                if let Some(pool) = pool.upgrade() {
                    pool.close(&address, turn);
                }
            });
        }
    }
}

/// Ways to agents of the same sort as this one: over TCP with what this agent
/// shows, or on this machine, where the kernel shows who calls.
#[derive(Debug)]
pub(crate) struct ClusterRoads {
    /// `None`: this agent is for this machine only.
    pub(crate) access: Option<Access>,
    pub(crate) keepalive: Keepalive,
}

impl Roads for ClusterRoads {
    fn connect(&self, address: &str) -> Connecting {
        let parsed = Address::parse(address);
        let (access, keepalive) = (self.access.clone(), self.keepalive);
        Box::pin(async move {
            let address = parsed.map_err(|error| PeerError(error.to_string()))?;
            // A driver far away names no sockets of this machine.
            if address.unix().is_some() == access.is_some() {
                let why = format!("`{address}` is not where agents like this one listen");
                return Err(PeerError(why));
            }
            let channel = connect(&address, access.as_ref(), keepalive, WINDOW_BYTES).await;
            channel.map_err(|error| PeerError(format!("it cannot be reached: {}", chain(&error))))
        })
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
