//! [`Snapshots`]: where all memory was, at a few hundred moments spread over a run of any length.
#![forbid(unsafe_code)]

use super::machine::State;
use super::memory::Kind;
use super::operations::pages;
use std::time::Duration;

/// Snapshots that are kept; when there are as many, the first of each two goes, and from then on they are as far apart
/// as those that are left.
const MOST: usize = 256;

/// Where all memory of a machine was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Virtual time since the machine was made.
    pub at: Duration,
    /// What was allocated from the driver, by number.
    pub allocations: Vec<Resident>,
}

/// Where one allocation was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resident {
    /// Its number, as in [`Happening::Allocated`](super::Happening::Allocated).
    pub allocation: u64,
    /// What it is: `"device"`, `"managed"`, `"pinned"`, `"mapped"`, or `"pool"` for a segment of a stream-ordered pool.
    pub kind: &'static str,
    /// Bytes that it was asked for with.
    pub bytes: u64,
    /// Bytes of its pages on the host.
    pub on_host: u64,
    /// Bytes of its pages on each device, by number. Copies of a page count at each.
    pub on_devices: Vec<u64>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Snapshots {
    taken: Vec<Snapshot>,
    /// Nanoseconds from one to the next, and when the next is due.
    apart: u64,
    due: u64,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { taken: Vec::new(), apart: 1000, due: 0 }
    }
}

impl Snapshots {
    fn add(&mut self, snapshot: Snapshot, now: u64) {
        self.taken.push(snapshot);
        if self.taken.len() >= MOST {
            let mut index = 0;
            self.taken.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            let first = self.taken.first().map_or(now, |snapshot| snapshot.at.as_nanos() as u64);
            self.apart = (2 * self.apart).max((now - first) / self.taken.len() as u64);
        }
        self.due = now + self.apart;
    }
}

impl State {
    pub(super) fn keep_snapshots(&mut self, on: bool) {
        self.snapshots = on.then(Snapshots::default);
    }

    /// What was kept, and how everything is now.
    pub(super) fn take_snapshots(&mut self) -> Vec<Snapshot> {
        let Some(kept) = &mut self.snapshots else { return Vec::new() };
        let mut taken = std::mem::take(kept).taken;
        taken.push(self.snapshot());
        taken
    }

    /// Memory has been allocated, freed or moved.
    pub(super) fn memory_changed(&mut self) {
        let now = self.now.max(self.time);
        if self.snapshots.as_ref().is_some_and(|snapshots| now >= snapshots.due) {
            let snapshot = self.snapshot();
            self.snapshots.as_mut().into_iter().for_each(|snapshots| snapshots.add(snapshot.clone(), now));
        }
    }

    fn snapshot(&self) -> Snapshot {
        let has_memory = |allocation: &&super::memory::Allocation| !matches!(allocation.kind, Kind::Alias(_));
        let resident = |allocation: &super::memory::Allocation| {
            let mut on = vec![0; self.devices.len() + 1];
            let kind = match allocation.kind {
                Kind::Managed(range) => {
                    on = self.space.resident_bytes(range, pages(0, allocation.bytes)).0;
                    "managed"
                }
                Kind::Pinned => {
                    on[0] = allocation.counted;
                    "pinned"
                }
                plain => {
                    on[allocation.device as usize + 1] = allocation.counted;
                    match plain {
                        Kind::Segment(_) => "pool",
                        Kind::Mapped(_) => "mapped",
                        _ => "device",
                    }
                }
            };
            let (on_host, on_devices) = (on[0], on[1..].to_vec());
            Resident { allocation: allocation.serial, kind, bytes: allocation.bytes, on_host, on_devices }
        };
        let mut allocations: Vec<_> = self.memory.allocations().filter(has_memory).map(resident).collect();
        allocations.sort_unstable_by_key(|resident| resident.allocation);
        Snapshot { at: Duration::from_nanos(self.now.max(self.time)), allocations }
    }
}
