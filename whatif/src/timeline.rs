//! The data of the charts: memory over time, and where it was.

use cumem::sim::Snapshot;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Bound on the number of moments. When it is reached, each two moments are merged into one, and later moments are at
/// least as far apart as the merged ones.
const MOST: usize = 512;
/// Rows of a residency map, which are the largest allocations.
const ROWS: usize = 40;

/// The memory at one moment. Each figure is its maximum since the moment before.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem_replay::Trace;
/// use cumem_whatif::{Setting, replay};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,4096,0\n1,1,free,0x100,4096,0\n";
/// let run = replay(&Trace::parse(log.as_bytes(), "log")?, &Setting::new(Profile::default(), "device".parse()?))?;
/// assert_eq!(run.timeline.iter().map(|moment| moment.requested).max(), Some(4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Moment {
    /// Virtual time since the run began, in nanoseconds.
    pub at_ns: u64,
    /// Bytes that the program had allocated from the stack.
    pub requested: u64,
    /// Bytes that the stack had allocated from the driver.
    pub reserved: u64,
}

/// Collects a bounded number of moments from a run of any length.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    moments: Vec<Moment>,
    apart: u64,
}

impl Timeline {
    pub(crate) fn add(&mut self, at: Duration, requested: u64, reserved: u64) {
        let at_ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        match self.moments.last_mut() {
            Some(last) if at_ns - last.at_ns.min(at_ns) < self.apart => {
                (last.requested, last.reserved) = (last.requested.max(requested), last.reserved.max(reserved));
            }
            _ => self.moments.push(Moment { at_ns, requested, reserved }),
        }
        if self.moments.len() >= MOST {
            let pairs = self.moments.chunks(2).map(|pair| pair.iter().copied().reduce(merged).unwrap_or(pair[0]));
            self.moments = pairs.collect();
            let whole = at_ns - self.moments[0].at_ns;
            self.apart = (2 * self.apart).max(whole / self.moments.len() as u64);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Moment> {
        std::mem::take(&mut self.moments)
    }
}

fn merged(first: Moment, second: Moment) -> Moment {
    let (requested, reserved) = (first.requested.max(second.requested), first.reserved.max(second.reserved));
    Moment { at_ns: first.at_ns, requested, reserved }
}

/// Where the largest allocations of the driver were, over time.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem_replay::Trace;
/// use cumem_whatif::{Setting, replay};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,4194304,0\n1,1,free,0x100,4194304,0\n";
/// // `touched`: the device writes the block, so its pages migrate to the device.
/// let setting = Setting::new(Profile::default(), "managed".parse()?).touched();
/// let run = replay(&Trace::parse(log.as_bytes(), "log")?, &setting)?;
/// assert_eq!(run.residency.on_device.iter().max(), Some(&(4 << 20)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[non_exhaustive]
pub struct LocationBytes {
    /// The moments, in nanoseconds since the run began.
    pub at_ns: Vec<u64>,
    /// Bytes of all allocations that were resident on the device, at each moment.
    pub on_device: Vec<u64>,
    /// The largest allocations, one row each, in the order of their numbers.
    pub rows: Vec<TimelineRow>,
    /// The number of allocations without a row.
    pub left_out: usize,
}

/// One allocation of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TimelineRow {
    /// Number of the allocation, in the order of the allocations.
    pub allocation: u64,
    /// Kind of memory.
    pub kind: &'static str,
    /// Requested bytes.
    pub bytes: u64,
    /// Bytes of its pages on the device and on the host, at each moment; `None` while it was not allocated.
    pub at: Vec<Option<[u64; 2]>>,
}

impl LocationBytes {
    pub(crate) fn of(snapshots: &[Snapshot]) -> Self {
        let mut rows: BTreeMap<u64, TimelineRow> = BTreeMap::new();
        let mut on_device = Vec::new();
        for (i, snapshot) in snapshots.iter().enumerate() {
            let mut sum = 0;
            for resident in &snapshot.allocations {
                let (device, kind) = (resident.on_devices.iter().sum::<u64>(), resident.kind);
                sum += device;
                let (allocation, bytes) = (resident.allocation, resident.bytes);
                let new = || TimelineRow { allocation, kind, bytes, at: vec![None; snapshots.len()] };
                rows.entry(allocation).or_insert_with(new).at[i] = Some([device, resident.on_host]);
            }
            on_device.push(sum);
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.bytes), row.allocation));
        let left_out = rows.len().saturating_sub(ROWS);
        rows.truncate(ROWS);
        rows.sort_by_key(|row| row.allocation);
        let at_ns = snapshots.iter().map(|snapshot| snapshot.at.as_nanos() as u64).collect();
        Self { at_ns, on_device, rows, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_timeline_keeps_its_peaks() {
        let mut timeline = Timeline::default();
        for i in 0..100_000_u64 {
            let bytes = if i == 77_777 { 1_000_000 } else { i % 100 };
            timeline.add(Duration::from_nanos(i * 1000), bytes, 2 * bytes);
        }
        let moments = timeline.take();
        assert!((MOST / 4..MOST).contains(&moments.len()), "{}", moments.len());
        assert_eq!(
            moments.iter().map(|moment| (moment.requested, moment.reserved)).max(),
            Some((1_000_000, 2_000_000))
        );
        assert!(moments.is_sorted_by_key(|moment| moment.at_ns));
        let peak = moments.iter().find(|moment| moment.requested == 1_000_000).unwrap();
        assert!((77_000_000..=77_777_000).contains(&peak.at_ns), "{peak:?}");
    }
}
