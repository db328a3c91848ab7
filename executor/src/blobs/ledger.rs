//! Who has how much room and who makes room for whom: decisions, no deeds.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::failure::{Failure, Kind};

/// Name of a blob's content: its BLAKE3 digest.
pub type Digest = [u8; 32];

/// Room is given in pages, because the kernel does.
const PAGE_BYTES: u64 = 4096;

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a memfd.
    Memory,
    /// In an unlinked file.
    Disk,
}

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes in shared memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub spill_bytes: u64,
    /// Most blobs: each costs a descriptor.
    pub blobs: usize,
}

/// What is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in shared memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub spilled_bytes: u64,
    /// All blobs.
    pub blobs: usize,
    /// Those that nobody uses and that are kept for whoever names their content.
    pub cached: usize,
}

/// The books.
#[derive(Debug)]
pub struct Ledger {
    memory: Room,
    disk: Room,
    /// Most blobs.
    most: usize,
    entries: HashMap<u64, Entry>,
    named: HashMap<Digest, u64>,
    last_blob: u64,
    last_turn: u64,
}

/// One of the two places.
#[derive(Debug)]
struct Room {
    limit: u64,
    used: u64,
    /// The part of it that nobody uses.
    idle_bytes: u64,
    /// Unused blobs by the turn in which they became so: the first is the one
    /// that goes first.
    idle: BTreeMap<u64, u64>,
}

impl Room {
    const fn new(limit: u64) -> Self {
        Self { limit, used: 0, idle_bytes: 0, idle: BTreeMap::new() }
    }

    /// Bytes that a new blob may have once unused ones have made way.
    const fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used - self.idle_bytes)
    }

    const fn lacks(&self, bytes: u64) -> bool {
        self.used.saturating_add(bytes) > self.limit
    }
}

#[derive(Debug)]
struct Entry {
    /// In whole pages.
    bytes: u64,
    place: Place,
    digest: Option<Digest>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So many use it.
    Pinned(u64),
    /// Nobody uses it since this turn, and this instant.
    Idle(u64, Duration),
}

/// Room for a blob, pinned once.
#[derive(Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its number; never used again.
    pub blob: u64,
    /// Where it is.
    pub place: Place,
    /// Unused blobs that have to go for it.
    pub evicted: Vec<u64>,
}

impl Ledger {
    /// Empty books.
    pub fn new(limits: Limits) -> Self {
        Self {
            memory: Room::new(limits.memory_bytes),
            disk: Room::new(limits.spill_bytes),
            most: limits.blobs,
            entries: HashMap::new(),
            named: HashMap::new(),
            last_blob: 0,
            last_turn: 0,
        }
    }

    /// What is in use.
    pub fn usage(&self) -> Usage {
        Usage {
            memory_bytes: self.memory.used,
            spilled_bytes: self.disk.used,
            blobs: self.entries.len(),
            cached: self.memory.idle.len() + self.disk.idle.len(),
        }
    }

    /// Whether a blob would get room as things are: in memory, unless it would
    /// not fit there at the best of times.
    pub fn has_room(&self, bytes: u64) -> bool {
        let Some(rounded) = pages(bytes) else { return false };
        let room = if rounded <= self.memory.limit { &self.memory } else { &self.disk };
        rounded <= room.left()
    }

    /// Whether a blob that is there is in memory.
    pub fn is_in_memory(&self, blob: u64) -> bool {
        self.entries.get(&blob).is_some_and(|entry| entry.place == Place::Memory)
    }

    /// Room for a new blob: in memory when unused blobs can make way there,
    /// else on disk.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] with every bound that is in the way.
    pub fn grant(&mut self, bytes: u64) -> Result<Granted, Failure> {
        let rounded = pages(bytes).ok_or_else(|| self.refusal(bytes))?;
        let mut evicted = self.make_countable()?;
        let place = if rounded <= self.memory.left() {
            Place::Memory
        } else if rounded <= self.disk.left() {
            Place::Disk
        } else {
            return Err(self.refusal(bytes));
        };
        evicted.extend(self.make_room(place, rounded));
        Ok(Granted { blob: self.enter(place, rounded), place, evicted })
    }

    /// Books a blob that exists already, made by a worker. One that was not
    /// told to go to disk may pass the bound of memory: it was kept when the
    /// worker began.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] with the bounds that are in the way.
    pub fn book(&mut self, bytes: u64, place: Place, may_pass: bool) -> Result<Granted, Failure> {
        let rounded = pages(bytes).ok_or_else(|| self.refusal(bytes))?;
        let mut evicted = self.make_countable()?;
        let excused = may_pass && place == Place::Memory && self.disk.limit > 0;
        if !excused && rounded > self.at(place).left() {
            return Err(self.refusal(bytes));
        }
        evicted.extend(self.make_room(place, rounded));
        Ok(Granted { blob: self.enter(place, rounded), place, evicted })
    }

    /// True when results are to go to disk: memory has no room left, even if
    /// what is unused makes way.
    pub const fn spills(&self) -> bool {
        self.memory.left() == 0 && self.disk.limit > 0
    }

    /// Names the content of a blob; from now on it outlives its users. False
    /// when another blob has that name already.
    pub fn name(&mut self, blob: u64, digest: Digest) -> bool {
        let Some(entry) = self.entries.get_mut(&blob) else { return false };
        if self.named.contains_key(&digest) {
            return false;
        }
        entry.digest = Some(digest);
        self.named.insert(digest, blob);
        true
    }

    /// Pins the blob with that content, if there is one.
    pub fn find(&mut self, digest: &Digest) -> Option<u64> {
        let blob = *self.named.get(digest)?;
        let entry = self.entries.get_mut(&blob)?;
        match &mut entry.state {
            State::Pinned(pins) => *pins += 1,
            State::Idle(turn, _) => {
                let room = match entry.place {
                    Place::Memory => &mut self.memory,
                    Place::Disk => &mut self.disk,
                };
                room.idle.remove(turn);
                room.idle_bytes -= entry.bytes;
                entry.state = State::Pinned(1);
            }
        }
        Some(blob)
    }

    /// Takes the name of a blob away; it goes with its last user.
    pub fn disown(&mut self, blob: u64) {
        let Some(entry) = self.entries.get_mut(&blob) else { return };
        if let Some(digest) = entry.digest.take() {
            self.named.remove(&digest);
        }
    }

    /// Lets go what nobody has used since an instant; gives the blobs.
    pub fn expire(&mut self, since: Duration) -> Vec<u64> {
        let mut expired = Vec::new();
        for room in [&self.memory, &self.disk] {
            let idle = room.idle.values().copied();
            expired.extend(idle.take_while(|blob| {
                let state = self.entries.get(blob).map(|entry| &entry.state);
                matches!(state, Some(State::Idle(_, at)) if *at < since)
            }));
        }
        for blob in &expired {
            self.remove(*blob);
        }
        expired
    }

    /// Takes one pin back, at an instant of whatever clock; true when the blob is
    /// gone with it.
    pub fn unpin(&mut self, blob: u64, now: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(&blob) else { return false };
        match &mut entry.state {
            State::Pinned(pins) if *pins > 1 => {
                *pins -= 1;
                return false;
            }
            State::Pinned(_) | State::Idle(..) => {}
        }
        let room = match entry.place {
            Place::Memory => &mut self.memory,
            Place::Disk => &mut self.disk,
        };
        // What is over the budget is not worth keeping.
        if entry.digest.is_none() || room.lacks(0) {
            self.remove(blob);
            return true;
        }
        self.last_turn += 1;
        entry.state = State::Idle(self.last_turn, now);
        room.idle.insert(self.last_turn, blob);
        room.idle_bytes += entry.bytes;
        false
    }

    /// Room for one more descriptor.
    fn make_countable(&mut self) -> Result<Vec<u64>, Failure> {
        let limit = self.most;
        if self.entries.len() < limit {
            return Ok(Vec::new());
        }
        let rooms = [&self.memory, &self.disk];
        let oldest = rooms.into_iter().filter_map(|room| room.idle.first_key_value()).min();
        let Some((_, blob)) = oldest else {
            let message = format!(
                "{limit} blobs are in use; half of the agent's limit on open files \
                 (RLIMIT_NOFILE) allows no more"
            );
            return Err(Failure::new(Kind::QuotaExceeded, message));
        };
        let blob = *blob;
        self.remove(blob);
        Ok(vec![blob])
    }

    /// Lets unused blobs go, the longest unused first, until so many bytes fit
    /// or none is left.
    fn make_room(&mut self, place: Place, bytes: u64) -> Vec<u64> {
        let mut evicted = Vec::new();
        while self.at(place).lacks(bytes) {
            let Some((_, blob)) = self.at(place).idle.first_key_value() else { break };
            let blob = *blob;
            self.remove(blob);
            evicted.push(blob);
        }
        evicted
    }

    fn enter(&mut self, place: Place, bytes: u64) -> u64 {
        self.last_blob += 1;
        self.at(place).used += bytes;
        let entry = Entry { bytes, place, digest: None, state: State::Pinned(1) };
        self.entries.insert(self.last_blob, entry);
        self.last_blob
    }

    fn remove(&mut self, blob: u64) {
        let Some(entry) = self.entries.remove(&blob) else { return };
        let room = self.at(entry.place);
        room.used -= entry.bytes;
        if let State::Idle(turn, _) = entry.state {
            room.idle.remove(&turn);
            room.idle_bytes -= entry.bytes;
        }
        if let Some(digest) = entry.digest {
            self.named.remove(&digest);
        }
    }

    const fn at(&mut self, place: Place) -> &mut Room {
        match place {
            Place::Memory => &mut self.memory,
            Place::Disk => &mut self.disk,
        }
    }

    fn refusal(&self, bytes: u64) -> Failure {
        let message = format!(
            "a blob of {bytes} bytes does not fit: {} of {} bytes of `blob-memory-bytes` and {} \
             of {} bytes of `spill-bytes` are in use",
            self.memory.used, self.memory.limit, self.disk.used, self.disk.limit
        );
        Failure::new(Kind::QuotaExceeded, message)
    }
}

/// The next multiple of a page.
fn pages(bytes: u64) -> Option<u64> {
    bytes.max(1).checked_next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
