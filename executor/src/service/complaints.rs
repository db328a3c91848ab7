//! Tells the log who was refused: once for each address and reason, and later
//! how often again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::leash::Caller;

/// How long the same complaint is only counted.
const QUIET: Duration = Duration::from_secs(60);

/// Addresses and reasons that are remembered. While all are recent, further ones
/// are not told.
const MAX_REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<(Option<IpAddr>, &'static str), Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Since then.
    more: u64,
}

impl Complaints {
    pub(super) fn log(&self, caller: &Caller, reason: &'static str, detail: &str) {
        let Some(more) = self.tell(caller, reason, Instant::now()) else {
            tracing::debug!(peer = %caller, reason, detail, "refused again");
            return;
        };
        // What a peer sent may be in it.
        let detail = detail.escape_debug();
        tracing::warn!(peer = %caller, reason, %detail, more, "refused a connection or request");
    }

    /// How many were kept quiet since it was told last; `None`: keep quiet.
    fn tell(&self, caller: &Caller, reason: &'static str, now: Instant) -> Option<u64> {
        let host = match caller {
            Caller::Local => None,
            Caller::Remote(address) => Some(address.ip()),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = known.get_mut(&(host, reason)) {
            if now.duration_since(told.at) < QUIET {
                told.more += 1;
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.more));
        }
        if known.len() >= MAX_REMEMBERED {
            known.retain(|_, told| now.duration_since(told.at) < QUIET);
        }
        if known.len() >= MAX_REMEMBERED {
            return None;
        }
        known.insert((host, reason), Told { at: now, more: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_told_once_a_minute_with_how_many_were_not() {
        let complaints = Complaints::default();
        let caller = |text: &str| Caller::Remote(text.parse().unwrap());
        let (one, same, other) =
            (caller("192.0.2.1:1"), caller("192.0.2.1:2"), caller("192.0.2.2:1"));
        let now = Instant::now();
        assert_eq!(complaints.tell(&one, "token", now), Some(0));
        assert_eq!(complaints.tell(&same, "token", now), None);
        assert_eq!(complaints.tell(&same, "TLS", now), Some(0));
        assert_eq!(complaints.tell(&other, "token", now), Some(0));
        assert_eq!(complaints.tell(&one, "token", now + QUIET), Some(1));
    }

    #[test]
    fn a_thousand_addresses_are_not_remembered() {
        let complaints = Complaints::default();
        let now = Instant::now();
        let told = |number: u16, now| {
            let [high, low] = number.to_be_bytes();
            let caller = Caller::Remote(([10, 0, high, low], 1).into());
            complaints.tell(&caller, "token", now).is_some()
        };
        assert_eq!((0..1000).filter(|number| told(*number, now)).count(), MAX_REMEMBERED);
        assert!(told(5000, now + QUIET));
    }
}
