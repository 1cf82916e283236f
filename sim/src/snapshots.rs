//! [`Snapshots`]: where all memory was, at a few hundred moments spread over a run of any length.
#![forbid(unsafe_code)]

use super::machine::State;
use super::memory::Kind;
use super::operations::pages;
use std::time::Duration;

/// Number of snapshots at which the list is thinned out. Of every two, the first is dropped, and from then on snapshots
/// are taken as far apart as the remaining ones.
const MOST: usize = 256;

/// The locations of all memory of a machine at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Virtual time since the machine was created.
    pub at: Duration,
    /// The allocations of the driver, ordered by number.
    pub allocations: Vec<Resident>,
}

/// The locations of one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resident {
    /// Number of the allocation, as in [`Happening::Allocated`](super::Happening::Allocated).
    pub allocation: u64,
    /// The kind of memory: `"device"`, `"managed"`, `"pinned"`, `"mapped"`, or `"pool"` for a segment of a
    /// stream-ordered pool.
    pub kind: &'static str,
    /// Bytes as requested.
    pub bytes: u64,
    /// Bytes of the allocation's pages that are on the host.
    pub on_host: u64,
    /// Bytes of the allocation's pages that are on each device, by ordinal. A page with copies at several locations
    /// counts at each.
    pub on_devices: Vec<u64>,
}

/// The snapshots that are kept. See the [module](self).
#[derive(Debug)]
pub(super) struct Snapshots {
    taken: Vec<Snapshot>,
    /// Nanoseconds between snapshots, and the virtual time at which the next one is due.
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

    /// Returns the kept snapshots, and one of the present state.
    pub(super) fn take_snapshots(&mut self) -> Vec<Snapshot> {
        let Some(kept) = &mut self.snapshots else { return Vec::new() };
        let mut taken = std::mem::take(kept).taken;
        taken.push(self.snapshot());
        taken
    }

    /// Takes a snapshot if one is due. Called whenever memory was allocated, freed or moved.
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
