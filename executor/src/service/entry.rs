//! What a listener asks of callers, and whom it has let in so far.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use clutch_access::{Keepalive, ServerAccess, Token};
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use super::complaints::Complaints;
use super::leash::{Caller, Leash};
use crate::settings::ConnectionOptions;

/// Connections on TCP that have not authenticated; for one more, the oldest makes
/// way. Hundreds of callers that mean well may come at once, and are done long
/// before that.
const MAX_STRANGERS: usize = 256;

/// One for all connections of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Entry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None`: on a Unix socket, where the kernel has told who calls.
    access: Option<ServerAccess>,
    options: ConnectionOptions,
    room: Arc<Semaphore>,
    strangers: Mutex<VecDeque<Weak<Leash>>>,
    complaints: Complaints,
}

impl Entry {
    pub(crate) fn new(access: Option<ServerAccess>, options: ConnectionOptions) -> Self {
        Self(Arc::new(Inner {
            access,
            room: Arc::new(Semaphore::new(options.max_connections)),
            options,
            strangers: Mutex::default(),
            complaints: Complaints::default(),
        }))
    }

    pub(super) fn token(&self) -> Option<&Token> {
        self.0.access.as_ref().map(|access| &access.token)
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.0.access.as_ref().and_then(|access| access.tls.clone())
    }

    pub(super) fn keepalive(&self) -> Keepalive {
        self.0.options.keepalive
    }

    /// Room for connections that have authenticated.
    pub(super) fn room(&self) -> &Arc<Semaphore> {
        &self.0.room
    }

    pub(super) fn max_connections(&self) -> usize {
        self.0.options.max_connections
    }

    /// Takes in somebody on TCP of whom nothing is known.
    pub(super) fn stranger(&self, peer: SocketAddr) -> Arc<Leash> {
        // An IPv4 peer of an IPv6 listener is known by its own address.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let leash = Arc::new(Leash::new(Caller::Remote(peer)));
        let strangers = &self.0.strangers;
        let mut strangers = strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.len() >= MAX_STRANGERS {
            strangers.retain(|known| known.upgrade().is_some_and(|known| known.is_stranger()));
        }
        let oldest = if strangers.len() >= MAX_STRANGERS { strangers.pop_front() } else { None };
        strangers.push_back(Arc::downgrade(&leash));
        drop(strangers);
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            oldest.make_way();
        }
        leash
    }

    /// Logs that somebody was refused; once for a connection, and not each time for
    /// who comes again and again.
    pub(super) fn complain(&self, leash: &Leash, reason: &'static str, detail: &str) {
        if !leash.first_complaint() {
            return;
        }
        self.0.complaints.log(&leash.caller, reason, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_makes_way_and_members_stay() {
        let entry = Entry::new(None, ConnectionOptions::default());
        let peer = "192.0.2.1:1".parse().unwrap();
        let member = entry.stranger(peer);
        let _asking = member.admit(entry.room()).unwrap();
        let known: Vec<_> = (0..=MAX_STRANGERS).map(|_| entry.stranger(peer)).collect();
        assert!(known[0].why_cut().is_some());
        assert!(known[1..].iter().all(|leash| leash.why_cut().is_none()));
        assert_eq!(member.why_cut(), None);
    }
}
