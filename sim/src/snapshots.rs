//! [`Snapshots`]: where all memory was, at a few hundred moments spread over a run of any length.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Number of snapshots at which the list is thinned out. Of every two, the first is dropped, and from then on snapshots
/// are taken as far apart as the remaining ones.
const MOST: usize = 256;

/// The locations of all memory of a machine at one moment.
///
/// # Examples
///
/// ```
/// use cumem_driver::{AccessMode, Driver};
/// use cumem_sim::{Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// sim.keep_snapshots(true);
/// let memory = sim.allocate_managed(0, 2 << 20)?;
/// sim.access_from_host(memory.as_ptr(), 1 << 20, AccessMode::Write)?;
///
/// let snapshots = sim.take_snapshots();
/// let resident = &snapshots.last().expect("the present state").allocations[0];
/// assert_eq!((resident.kind, resident.bytes, resident.on_host), ("managed", 2 << 20, 1 << 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// Number of the allocation, as in [`JournalEvent::Allocated`](crate::JournalEvent::Allocated).
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
    pub(super) taken: Vec<Snapshot>,
    /// Nanoseconds between snapshots, and the virtual time at which the next one is due.
    apart: u64,
    pub(super) due: u64,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { taken: Vec::new(), apart: 1000, due: 0 }
    }
}

impl Snapshots {
    pub(super) fn add(&mut self, snapshot: Snapshot, now: u64) {
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
