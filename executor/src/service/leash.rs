//! How long a connection may stay that does nothing for us.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a stranger has, from its first packet to its first authenticated
/// request.
const AUTHENTICATE_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection without any request is kept. Whoever wants to ask
/// something later connects again.
const IDLE: Duration = Duration::from_secs(60);

/// Failed requests after which a stranger has to go.
const MAX_FAILURES: u32 = 8;

/// Why a connection has to go.
const LATE: &str = "it did not authenticate within 5 s";
const FAILED: &str = "it failed to authenticate again and again";
const MADE_WAY: &str = "it made way for a newer one before it had authenticated";
const IDLED: &str = "it was idle";

/// Who calls, as logs name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// On a Unix socket: the kernel has said who it is.
    Local,
    /// On TCP.
    Remote(std::net::SocketAddr),
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => formatter.write_str("this machine"),
            Self::Remote(address) => address.fmt(formatter),
        }
    }
}

/// What is known of one connection, shared by its socket and its requests.
#[derive(Debug)]
pub(super) struct Leash {
    pub(super) caller: Caller,
    /// The log has a word on it: one will do.
    told: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Has shown no token yet.
    Stranger { since: Instant, failures: u32, waker: Option<Waker> },
    /// Has, once. Each of its requests does so again.
    Member { requests: usize, idle_since: Instant, _room: OwnedSemaphorePermit },
    /// Has to go.
    Cut(&'static str),
}

/// There is no room for another connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Leash {
    pub(super) fn new(caller: Caller) -> Self {
        let state = State::Stranger { since: Instant::now(), failures: 0, waker: None };
        Self { caller, told: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// A request showed what it has to: the connection may stay while requests
    /// last, and a while after.
    pub(super) fn admit(self: &Arc<Self>, room: &Arc<Semaphore>) -> Result<Asking, Full> {
        let mut state = self.lock();
        match &mut *state {
            State::Stranger { .. } => {
                let room = Arc::clone(room).try_acquire_owned().map_err(|_| Full)?;
                let idle_since = Instant::now();
                *state = State::Member { requests: 1, idle_since, _room: room };
            }
            State::Member { requests, .. } => *requests += 1,
            State::Cut(_) => return Err(Full),
        }
        Ok(Asking(Arc::clone(self)))
    }

    /// A request did not. Of a stranger, not many are heard.
    pub(super) fn fail(&self) {
        let mut state = self.lock();
        if let State::Stranger { failures, .. } = &mut *state {
            *failures += 1;
            if *failures >= MAX_FAILURES {
                cut(state, FAILED);
            }
        }
    }

    /// Has it go, if it is still a stranger.
    pub(super) fn make_way(&self) {
        let state = self.lock();
        if matches!(*state, State::Stranger { .. }) {
            cut(state, MADE_WAY);
        }
    }

    /// Whether it is the first time that somebody complains of it.
    pub(super) fn first_complaint(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_stranger(&self) -> bool {
        matches!(*self.lock(), State::Stranger { .. })
    }

    /// Why it has to go, if it has to.
    pub(super) fn why_cut(&self) -> Option<&'static str> {
        match *self.lock() {
            State::Cut(why) if why != IDLED => Some(why),
            State::Stranger { .. } | State::Member { .. } | State::Cut(_) => None,
        }
    }

    /// Waits until it has to go.
    pub(super) async fn cut(self: &Arc<Self>) -> &'static str {
        let mut watch = Watch::new(Arc::clone(self));
        poll_fn(|context| watch.poll_cut(context)).await
    }

    /// When to look again, or why it has to go now.
    fn look(&self, now: Instant) -> Result<Instant, &'static str> {
        let mut state = self.lock();
        let (until, why) = match &*state {
            State::Cut(why) => return Err(why),
            State::Stranger { since, .. } => (*since + AUTHENTICATE_WITHIN, LATE),
            State::Member { requests: 0, idle_since, .. } => (*idle_since + IDLE, IDLED),
            State::Member { .. } => return Ok(now + IDLE),
        };
        if until > now {
            return Ok(until);
        }
        *state = State::Cut(why);
        Err(why)
    }

    /// Remembers whom to wake when a stranger has to make way.
    fn tell(&self, waker: &Waker) -> bool {
        match &mut *self.lock() {
            State::Stranger { waker: told, .. } => {
                if !told.as_ref().is_some_and(|told| told.will_wake(waker)) {
                    *told = Some(waker.clone());
                }
                false
            }
            State::Member { .. } => false,
            State::Cut(_) => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics between two writes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(mut state: MutexGuard<'_, State>, why: &'static str) {
    if let State::Stranger { waker, .. } = std::mem::replace(&mut *state, State::Cut(why)) {
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Asking(Arc<Leash>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let State::Member { requests, idle_since, .. } = &mut *self.0.lock() {
            *requests -= 1;
            *idle_since = Instant::now();
        }
    }
}

/// Tells a socket when it has to go.
#[derive(Debug)]
pub(super) struct Watch {
    leash: Arc<Leash>,
    sleep: Pin<Box<Sleep>>,
}

impl Watch {
    pub(super) fn new(leash: Arc<Leash>) -> Self {
        let now = Instant::now();
        let first = leash.look(now).unwrap_or(now);
        Self { leash, sleep: Box::pin(sleep_until(first)) }
    }

    pub(super) fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<&'static str> {
        if !self.leash.tell(context.waker()) && self.sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        loop {
            match self.leash.look(Instant::now()) {
                Err(why) => return Poll::Ready(why),
                Ok(until) => self.sleep.as_mut().reset(until),
            }
            if self.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn leash() -> Arc<Leash> {
        Arc::new(Leash::new(Caller::Local))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_goes_after_five_seconds_and_a_member_when_it_has_been_idle() {
        let begin = Instant::now();
        assert_eq!(leash().cut().await, LATE);
        assert_eq!(begin.elapsed().as_secs(), 5);

        let member = leash();
        let room = Arc::new(Semaphore::new(1));
        let asking = member.admit(&room).unwrap();
        let waiting = tokio::spawn({
            let member = Arc::clone(&member);
            async move { member.cut().await }
        });
        advance(Duration::from_secs(600)).await;
        assert!(!waiting.is_finished());
        drop(asking);
        let begin = Instant::now();
        assert_eq!(waiting.await.unwrap(), IDLED);
        assert!((60..=120).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
        drop(member);
        assert_eq!(room.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_makes_way_at_once_and_a_member_does_not() {
        let room = Arc::new(Semaphore::new(1));
        let (stranger, member) = (leash(), leash());
        let _asking = member.admit(&room).unwrap();
        let waiting = tokio::spawn({
            let stranger = Arc::clone(&stranger);
            async move { stranger.cut().await }
        });
        tokio::task::yield_now().await;
        let begin = Instant::now();
        stranger.make_way();
        member.make_way();
        assert_eq!(waiting.await.unwrap(), MADE_WAY);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(member.why_cut(), None);
    }

    #[tokio::test]
    async fn one_more_than_there_is_room_for_is_not_admitted() {
        let room = Arc::new(Semaphore::new(1));
        let first = leash();
        let _asking = first.admit(&room).unwrap();
        assert!(first.admit(&room).is_ok());
        assert_eq!(leash().admit(&room).unwrap_err(), Full);
    }

    #[tokio::test]
    async fn who_guesses_has_to_go() {
        let guessing = leash();
        for _ in 0..MAX_FAILURES {
            assert!(guessing.is_stranger());
            guessing.fail();
        }
        assert_eq!(guessing.why_cut(), Some(FAILED));
    }
}
