//! Whole CPUs for workers, where the kernel cannot give them a part of one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::identifiers::Pid;

/// Which CPUs of the agent have how many workers.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    users: Arc<Mutex<Vec<Seat>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    cpu: usize,
    users: u64,
}

/// Some CPUs that one worker keeps to. Free for others when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    cpus: Vec<usize>,
    seats: Seats,
}

impl Seats {
    /// The CPUs that this process may use. None, and hence no limit, when that
    /// cannot be told.
    pub(super) fn of_this_process() -> Self {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let users = allowed.map(|cpu| Seat { cpu, users: 0 }).collect();
        Self { users: Arc::new(Mutex::new(users)) }
    }

    /// Keeps a process, and all that it starts later, to so many CPUs, rounded
    /// up: those that the fewest keep to. `None`: there are no more than that.
    ///
    /// # Errors
    /// When the kernel refuses, or the process is dead.
    pub(super) fn pin(&self, pid: Pid, cpus: f64) -> io::Result<Option<Taken>> {
        // Without a number this would be our own.
        let number = pid.raw().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let Some(taken) = self.take(cpus) else { return Ok(None) };
        let mut set = CpuSet::new();
        taken.cpus.iter().for_each(|cpu| set.set(*cpu));
        sched_setaffinity(Some(number), &set)?;
        Ok(Some(taken))
    }

    fn take(&self, cpus: f64) -> Option<Taken> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let count = fewer(cpus, users.len())?;
        users.sort_by_key(|seat| (seat.users, seat.cpu));
        let taken = users.iter_mut().take(count).map(|seat| {
            seat.users += 1;
            seat.cpu
        });
        Some(Taken { cpus: taken.collect(), seats: self.clone() })
    }
}

/// So many CPUs, rounded up; `None`: that is all of them.
pub(super) fn fewer(cpus: f64, all: usize) -> Option<usize> {
    // CPUs are counted in small numbers.
    let whole = |count| u32::try_from(count).map_or(f64::INFINITY, f64::from);
    (1..all).find(|count| whole(*count) >= cpus)
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut users = self.seats.users.lock().unwrap_or_else(PoisonError::into_inner);
        for seat in users.iter_mut().filter(|seat| self.cpus.contains(&seat.cpu)) {
            seat.users = seat.users.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(cpus: &[usize]) -> Seats {
        let users = cpus.iter().map(|cpu| Seat { cpu: *cpu, users: 0 }).collect();
        Seats { users: Arc::new(Mutex::new(users)) }
    }

    #[test]
    fn workers_are_spread_and_seats_are_used_again() {
        let seats = seats(&[0, 2, 4, 6]);
        let first = seats.take(1.0).unwrap();
        let second = seats.take(1.5).unwrap();
        assert_eq!((&*first.cpus, &*second.cpus), (&[0][..], &[2, 4][..]));
        let third = seats.take(2.0).unwrap();
        assert_eq!(third.cpus, [6, 0]);
        drop(second);
        assert_eq!(seats.take(0.1).unwrap().cpus, [2]);
    }

    #[test]
    fn who_may_use_all_is_not_held() {
        assert!(seats(&[0, 1]).take(2.0).is_none());
        assert!(seats(&[0, 1]).take(1.1).is_none());
        assert!(seats(&[0]).take(0.5).is_none());
        assert!(seats(&[]).take(1.0).is_none());
    }

    #[test]
    fn a_process_keeps_to_its_cpus() {
        let seats = Seats::of_this_process();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let taken = seats.pin(Pid(child.id()), 1.0).unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let allowed = sched_getaffinity(Some(pid)).unwrap();
        let mine = sched_getaffinity(None).unwrap().count();
        // With one CPU there is nothing to keep to.
        assert_eq!((taken.is_some(), allowed.count()), (mine > 1, 1));
        assert!(taken.is_none_or(|taken| allowed.is_set(taken.cpus[0])));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seats.pin(Pid(u32::MAX), 1.0).is_err());
    }
}
