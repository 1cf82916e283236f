//! [`Report`]: what a ledger counted, and its table.

use crate::driver::sim::DeviceStatistics;
use crate::location::Location;
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
pub struct Row {
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

impl Row {
    /// Bytes per second, where the calls wait for their end.
    pub fn bandwidth(&self) -> Option<f64> {
        self.time.filter(|time| !time.is_zero()).map(|time| self.bytes as f64 / time.as_secs_f64())
    }
}

/// What moved on all devices of a simulated machine, in one phase. Whole pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Moved {
    /// Page faults of devices.
    pub faults: u64,
    /// Page faults of the host.
    pub host_faults: u64,
    /// Chunks of 2 MiB that were evicted.
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
    /// The sum over devices.
    pub(super) fn of(devices: impl Iterator<Item = DeviceStatistics>) -> Self {
        devices.fold(Self::default(), |sum, device| {
            let of_one = Self {
                faults: device.faults,
                host_faults: device.host_faults,
                evictions: device.evictions,
                prefetched_to_device: device.prefetched_to_device,
                prefetched_to_host: device.prefetched_to_host,
                faulted_to_device: device.migrated_to_device - device.prefetched_to_device,
                faulted_to_host: device.migrated_to_host - device.prefetched_to_host - device.evicted,
                evicted_to_host: device.evicted,
                between_devices: device.migrated_from_peers,
                copied_to_device: device.copied_to_device,
                copied_to_host: device.copied_to_host,
            };
            sum.plus(&of_one)
        })
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        macro_rules! sum {
            ($($figure:ident),+) => { Self { $($figure: self.$figure + other.$figure),+ } };
        }
        each_figure!(sum)
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        macro_rules! difference {
            ($($figure:ident),+) => { Self { $($figure: self.$figure - before.$figure),+ } };
        }
        each_figure!(difference)
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
        macro_rules! list {
            ($($figure:ident),+) => { [$((stringify!($figure), self.$figure)),+] };
        }
        each_figure!(list).into_iter()
    }
}

/// What a ledger counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What was asked, by tag, phase, cause and direction, in this order.
    pub rows: Vec<Row>,
    /// What moved, by phase, as far as the work was done when the phase ended. `None` on a GPU, whose driver does not say.
    pub moved: Option<Vec<(String, Moved)>>,
}

/// A table, and what moved under it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        writeln!(
            f,
            "{:16} {:16} {:12} {:8} {:>8} {:>16} {:>9}",
            "tag", "phase", "cause", "to", "calls", "bytes", "GB/s"
        )?;
        for row in &self.rows {
            let Row { cause, calls, bytes, .. } = row;
            let rate = row.bandwidth().map_or("-".into(), |rate| format!("{:.2}", rate / 1e9));
            let (tag, phase, to) = (or(&row.tag), or(&row.phase), row.to.to_string());
            writeln!(f, "{tag:16} {phase:16} {cause:12} {to:8} {calls:>8} {bytes:>16} {rate:>9}")?;
        }
        let Some(moved) = &self.moved else {
            return writeln!(f, "moved, faults: unknown, a GPU's driver does not say");
        };
        for (phase, moved) in moved {
            write!(f, "moved (simulated) in {}:", or(phase))?;
            for (name, figure) in moved.fields().filter(|(_, figure)| *figure > 0) {
                write!(f, " {name} {figure}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
