//! [`LedgerReport`]: what a ledger counted, and its table.

use cumem_driver::Location;
use cumem_driver::{MigrationCause, Movement};
use std::fmt;
use std::time::Duration;

/// Why bytes were to go somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// A prefetch that the driver accepted.
    Prefetched,
    /// The host was let read.
    HostRead,
    /// The host was let write.
    HostWrite,
    /// A copy from the host into a buffer.
    Upload,
    /// A copy from a buffer to the host.
    Download,
    /// A [use](crate::Buffer::device_use) by work on a device was declared.
    DeviceUse,
    /// A kernel of a simulated device said that it reads.
    KernelRead,
    /// A kernel of a simulated device said that it writes.
    KernelWrite,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prefetched => "prefetch",
            Self::HostRead => "host read",
            Self::HostWrite => "host write",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::DeviceUse => "device use",
            Self::KernelRead => "kernel read",
            Self::KernelWrite => "kernel write",
        })
    }
}

/// What was asked, of one tag and phase, for one cause and direction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerRow {
    /// The tag of the memory; empty where it has none.
    pub tag: String,
    /// The innermost phase; empty outside of all.
    pub phase: String,
    /// Why.
    pub cause: Cause,
    /// Where the bytes were to go.
    pub to: Location,
    /// How often.
    pub calls: u64,
    /// Bytes asked for. How many of them had to move is not known from this.
    pub bytes: u64,
    /// How long those calls took that wait for their end: uploads and downloads. Virtual time on a simulated device.
    pub time: Option<Duration>,
}

impl LedgerRow {
    /// Bytes per second, where the calls wait for their end.
    pub fn bandwidth(&self) -> Option<f64> {
        self.time.filter(|time| !time.is_zero()).map(|time| self.bytes as f64 / time.as_secs_f64())
    }
}

/// What moved on all devices of a simulated machine. Pages move whole; of those that hold memory of several tags, each
/// counts its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Moved {
    /// Page faults of devices.
    pub faults: u64,
    /// Page faults of the host.
    pub host_faults: u64,
    /// Chunks of 2 MiB that were evicted; one that holds memory of several tags counts for the first.
    pub evictions: u64,
    /// Bytes to devices by prefetches.
    pub prefetched_to_device: u64,
    /// Bytes to the host by prefetches.
    pub prefetched_to_host: u64,
    /// Bytes to devices because of faults.
    pub faulted_to_device: u64,
    /// Bytes to the host because of faults.
    pub faulted_to_host: u64,
    /// Bytes to the host by evictions.
    pub evicted_to_host: u64,
    /// Bytes between devices.
    pub between_devices: u64,
    /// Bytes that copies took to devices.
    pub copied_to_device: u64,
    /// Bytes that copies took to host memory.
    pub copied_to_host: u64,
}

macro_rules! each_figure {
    ($macro:ident) => {
        $macro!(
            faults,
            host_faults,
            evictions,
            prefetched_to_device,
            prefetched_to_host,
            faulted_to_device,
            faulted_to_host,
            evicted_to_host,
            between_devices,
            copied_to_device,
            copied_to_host
        )
    };
}

impl Moved {
    /// The figure that counts a movement: bytes of what moves, occurrences of faults and evictions.
    pub(super) fn figure(&mut self, movement: &Movement) -> &mut u64 {
        match *movement {
            Movement::Fault { by: Location::Device(_), .. } => &mut self.faults,
            Movement::Fault { .. } => &mut self.host_faults,
            Movement::Evicted { .. } => &mut self.evictions,
            Movement::Migrated { cause, from, to, .. } => match (cause, from, to) {
                (_, Location::Device(_), Location::Device(_)) => &mut self.between_devices,
                (MigrationCause::Eviction, ..) => &mut self.evicted_to_host,
                (MigrationCause::Prefetch, _, Location::Device(_)) => &mut self.prefetched_to_device,
                (MigrationCause::Prefetch, ..) => &mut self.prefetched_to_host,
                (MigrationCause::Fault, _, Location::Device(_)) => &mut self.faulted_to_device,
                (MigrationCause::Fault, ..) => &mut self.faulted_to_host,
            },
            Movement::Copied { to_device: true, .. } => &mut self.copied_to_device,
            Movement::Copied { to_device: false, .. } => &mut self.copied_to_host,
        }
    }

    fn plus(&self, other: &Self) -> Self {
        macro_rules! sum {
            ($($figure:ident),+) => { Self { $($figure: self.$figure + other.$figure),+ } };
        }
        each_figure!(sum)
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
        macro_rules! list {
            ($($figure:ident),+) => { [$((stringify!($figure), self.$figure)),+] };
        }
        each_figure!(list).into_iter()
    }
}

/// What moved of the memory of one tag, in one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MovedRow {
    /// The tag of the memory; empty where it has none.
    pub tag: String,
    /// The innermost phase when the work was done; empty outside of all.
    pub phase: String,
    /// What moved.
    pub moved: Moved,
}

/// What a ledger counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerReport {
    /// What was asked, by tag, phase, cause and direction, in this order.
    pub rows: Vec<LedgerRow>,
    /// What moved, by tag and phase, in this order. `None` on a GPU, whose driver does not say.
    pub moved: Option<Vec<MovedRow>>,
}

impl LedgerReport {
    /// The sum of what moved over some rows, such as those of a phase; `None` on a GPU.
    pub fn sum_moved(&self, which: impl Fn(&MovedRow) -> bool) -> Option<Moved> {
        let rows = self.moved.as_ref()?.iter().filter(|row| which(row));
        Some(rows.fold(Moved::default(), |sum, row| sum.plus(&row.moved)))
    }
}

/// A table, and what moved under it.
impl fmt::Display for LedgerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        writeln!(
            f,
            "{:16} {:16} {:12} {:8} {:>8} {:>16} {:>9}",
            "tag", "phase", "cause", "to", "calls", "bytes", "GB/s"
        )?;
        for row in &self.rows {
            let LedgerRow { cause, calls, bytes, .. } = row;
            let rate = row.bandwidth().map_or("-".into(), |rate| format!("{:.2}", rate / 1e9));
            let (tag, phase, to) = (or(&row.tag), or(&row.phase), row.to.to_string());
            writeln!(f, "{tag:16} {phase:16} {cause:12} {to:8} {calls:>8} {bytes:>16} {rate:>9}")?;
        }
        let Some(moved) = &self.moved else {
            return writeln!(f, "moved, faults: unknown, a GPU's driver does not say");
        };
        for row in moved {
            write!(f, "moved (simulated) of {} in {}:", or(&row.tag), or(&row.phase))?;
            for (name, figure) in row.moved.fields().filter(|(_, figure)| *figure > 0) {
                write!(f, " {name} {figure}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
