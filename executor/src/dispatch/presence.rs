//! Whether a session's driver is there, and how long it is waited for.

use std::time::Duration;

use crate::clock::Monotonic;

/// How long an opened session may stay unattached.
const ATTACH_WITHIN: Duration = Duration::from_secs(30);

/// How long a driver is waited for that hung up: it is dead, most likely, but
/// what carries its connection may start anew.
const HUNG_UP: Duration = Duration::from_millis(750);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// In order, by either side.
    Ended,
    /// The driver's machine closed the connection.
    HungUp,
    /// The connection broke.
    Broken,
}

/// Where a driver is.
#[derive(Debug)]
pub(super) struct Presence {
    /// How long the session outlives a connection that broke.
    silence: Duration,
    /// Streams so far.
    streams: u64,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// It has not attached yet.
    Expected {
        until: Monotonic,
    },
    Here,
    /// It may come back.
    Away {
        until: Monotonic,
    },
}

/// What a stream that begins means for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The conversation begins.
    Begins,
    /// It goes on; another stream that seems to be there is none.
    GoesOn,
    /// There is a stream, and it is not to be replaced.
    Taken,
}

/// What a stream that ended means for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    /// Nothing: another one took over.
    Superseded,
    /// It ends.
    Final,
    /// It waits for its driver, that long.
    Waiting(Duration),
}

impl Presence {
    pub(super) fn expected(silence: Duration, now: Monotonic) -> Self {
        let state = State::Expected { until: now.after(ATTACH_WITHIN) };
        Self { silence, streams: 0, state }
    }

    pub(super) const fn silence(&self) -> Duration {
        self.silence
    }

    /// Number of the stream that counts.
    pub(super) const fn stream(&self) -> u64 {
        self.streams
    }

    pub(super) const fn is_here(&self) -> bool {
        matches!(self.state, State::Here)
    }

    /// Whether the driver has never been here.
    pub(super) const fn is_expected(&self) -> bool {
        matches!(self.state, State::Expected { .. })
    }

    /// A stream begins.
    pub(super) const fn arrive(&mut self, resuming: bool) -> Arrival {
        let arrival = match self.state {
            State::Expected { .. } => Arrival::Begins,
            State::Here | State::Away { .. } if resuming && !self.silence.is_zero() => {
                Arrival::GoesOn
            }
            State::Here | State::Away { .. } => return Arrival::Taken,
        };
        self.streams += 1;
        self.state = State::Here;
        arrival
    }

    /// A stream has ended.
    pub(super) fn depart(&mut self, stream: u64, end: StreamEnd, now: Monotonic) -> Departure {
        if stream != self.streams {
            return Departure::Superseded;
        }
        let patience = match end {
            StreamEnd::Ended => Duration::ZERO,
            StreamEnd::HungUp => self.silence.min(HUNG_UP),
            StreamEnd::Broken => self.silence,
        };
        if patience.is_zero() {
            return Departure::Final;
        }
        self.state = State::Away { until: now.after(patience) };
        Departure::Waiting(patience)
    }

    /// Whether nobody waits for the driver any more.
    pub(super) fn is_over(&self, now: Monotonic) -> bool {
        match self.state {
            State::Expected { until } | State::Away { until } => now > until,
            State::Here => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_nanoseconds(milliseconds * 1_000_000)
    }

    fn here(silence: u64) -> Presence {
        let mut presence = Presence::expected(Duration::from_secs(silence), at(0));
        assert_eq!(presence.arrive(false), Arrival::Begins);
        presence
    }

    #[test]
    fn a_session_without_silence_ends_with_its_stream() {
        for end in [StreamEnd::Ended, StreamEnd::HungUp, StreamEnd::Broken] {
            assert_eq!(here(0).depart(1, end, at(5)), Departure::Final);
        }
        assert_eq!(here(0).arrive(true), Arrival::Taken);
    }

    #[test]
    fn how_the_connection_ended_says_how_long_the_driver_is_waited_for() {
        assert_eq!(here(60).depart(1, StreamEnd::Ended, at(5)), Departure::Final);
        let minute = Departure::Waiting(Duration::from_secs(60));
        assert_eq!(here(60).depart(1, StreamEnd::Broken, at(5)), minute);
        assert_eq!(here(60).depart(1, StreamEnd::HungUp, at(5)), Departure::Waiting(HUNG_UP));
    }

    #[test]
    fn a_driver_that_is_back_in_time_goes_on_and_one_that_is_late_does_not() {
        let mut presence = here(60);
        presence.depart(1, StreamEnd::Broken, at(0));
        assert!(!presence.is_here() && !presence.is_over(at(60_000)));
        assert!(presence.is_over(at(60_001)));
        assert_eq!(presence.arrive(false), Arrival::Taken);
        assert_eq!(presence.arrive(true), Arrival::GoesOn);
        assert!(presence.is_here() && !presence.is_over(at(99_000)));
    }

    #[test]
    fn whoever_resumes_takes_over_from_a_stream_that_seems_to_be_there() {
        let mut presence = here(60);
        assert_eq!(presence.arrive(true), Arrival::GoesOn);
        assert_eq!(presence.depart(1, StreamEnd::Broken, at(1)), Departure::Superseded);
        assert_eq!(presence.depart(1, StreamEnd::Ended, at(1)), Departure::Superseded);
        assert!(presence.is_here());
    }

    #[test]
    fn the_first_word_may_have_been_lost() {
        let mut presence = Presence::expected(Duration::from_secs(60), at(0));
        assert!(presence.is_expected() && presence.is_over(at(30_001)));
        assert_eq!(presence.arrive(true), Arrival::Begins);
    }
}
