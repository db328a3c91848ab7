//! Which agent gets which batch, with a clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clutch_client::placement::{self, BatchId, BlobId, Event, MemberId};
use pyo3::prelude::*;

/// Batches with their members, and whether another member has them too.
type Decisions = Vec<(BatchId, MemberId, bool)>;

/// See `Placement` in `joblib_clutch/_native.pyi`.
#[pyclass(frozen, module = "joblib_clutch._native")]
pub(crate) struct Placement {
    placement: Mutex<placement::Placement>,
    start: Instant,
}

#[pymethods]
impl Placement {
    #[new]
    fn new(max_running: u32, speculative: bool) -> Self {
        let placement = Mutex::new(placement::Placement::new(max_running, speculative));
        Self { placement, start: Instant::now() }
    }

    fn joined(&self, member: MemberId, slots: u32) -> Decisions {
        self.handle(Event::Joined { member, slots })
    }

    fn slots_are(&self, member: MemberId, slots: u32) -> Decisions {
        self.handle(Event::Slots { member, slots })
    }

    fn lost(&self, member: MemberId) -> Decisions {
        self.handle(Event::Lost { member })
    }

    fn submitted(&self, batch: BatchId, needs: Vec<(BlobId, u64)>) -> Decisions {
        self.handle(Event::Submitted { batch, needs })
    }

    fn ended(&self, member: MemberId, batch: BatchId, ran: Option<f64>) -> Decisions {
        self.handle(Event::Ended { member, batch, ran })
    }

    fn returned(&self, member: MemberId, batch: BatchId) -> Decisions {
        self.handle(Event::Returned { member, batch })
    }

    fn holds(&self, member: MemberId, blobs: Vec<BlobId>) -> Decisions {
        self.handle(Event::Holds { member, blobs })
    }

    fn moved(&self, member: MemberId, bytes: u64, seconds: f64) -> Decisions {
        self.handle(Event::Moved { member, bytes, seconds })
    }

    fn dropped(&self, blobs: Vec<BlobId>) -> Decisions {
        self.handle(Event::Dropped { blobs })
    }

    fn tick(&self) -> Decisions {
        self.handle(Event::Tick)
    }

    #[getter]
    fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    fn take_waiting(&self) -> Vec<BatchId> {
        self.lock().take_waiting()
    }
}

impl Placement {
    fn handle(&self, event: Event) -> Decisions {
        let mut placement = self.lock();
        // With the lock held: time must not go back.
        let decisions = placement.handle(event, self.start.elapsed().as_secs_f64());
        drop(placement);
        decisions.into_iter().map(|one| (one.batch, one.member, one.copy)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, placement::Placement> {
        self.placement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
