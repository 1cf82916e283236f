//! [`LedgerReport`]: the figures of a ledger, and their table.

use cumem_driver::{Location, MigrationCause, Movement};
use std::fmt;
use std::time::Duration;

/// The cause of a request: the call or the access that needs the bytes at a location.
///
/// # Examples
///
/// ```
/// use cumem::unified::accounting::Cause;
///
/// assert_eq!(Cause::HostRead.to_string(), "host read");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// A prefetch that the driver accepted.
    Prefetched,
    /// A host guard that reads.
    HostRead,
    /// A host guard that writes.
    HostWrite,
    /// A copy from the host into a buffer.
    Upload,
    /// A copy from a buffer to the host.
    Download,
    /// A declared [use](crate::Buffer::device_use) by work on a device.
    DeviceUse,
    /// A read by a kernel of a simulated device. Such kernels list their accesses.
    KernelRead,
    /// A write by a kernel of a simulated device. Such kernels list their accesses.
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

/// The requests of one tag and phase, with one cause and one target.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::accounting::{Cause, Ledger};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let ledger = Ledger::new(&device);
/// let _outcome = buffer.prefetch(device.id())?;
/// let row = &ledger.report().rows[0];
/// assert_eq!((row.cause, row.calls, row.bytes), (Cause::Prefetched, 1, 1 << 20));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerRow {
    /// The tag of the memory; empty if it has none.
    pub tag: String,
    /// The innermost phase; empty outside of all phases.
    pub phase: String,
    /// The cause.
    pub cause: Cause,
    /// The location where the bytes were needed.
    pub to: Location,
    /// The number of requests.
    pub calls: u64,
    /// Bytes requested. Some of them may have been at the location already, so fewer bytes may have migrated.
    pub bytes: u64,
    /// The total duration of uploads and downloads, which wait for their end; `None` for other causes. Virtual time on
    /// a simulated device.
    pub time: Option<Duration>,
}

impl LedgerRow {
    /// Returns the bytes per second of uploads and downloads, and `None` for other causes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::{Cause, Ledger};
    ///
    /// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let ledger = Ledger::new(&device);
    /// buffer.upload(&vec![7; 1 << 20])?;
    /// let report = ledger.report();
    /// let upload = report.rows.iter().find(|row| row.cause == Cause::Upload).unwrap();
    /// assert!(upload.bandwidth().unwrap() > 0.0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bandwidth(&self) -> Option<f64> {
        self.time.filter(|time| !time.is_zero()).map(|time| self.bytes as f64 / time.as_secs_f64())
    }
}

/// The page faults and the bytes that moved on all devices of a simulated machine. Pages migrate as a whole. If a page
/// holds memory of several tags, each tag counts its own bytes.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::accounting::Ledger;
///
/// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// buffer.host_write()?.fill(7);
/// let ledger = Ledger::new(&device);
/// let _outcome = buffer.prefetch(device.id())?;
/// stream.synchronize()?;
/// let moved = ledger.report().sum_moved(|_| true).unwrap();
/// assert_eq!((moved.prefetched_to_device, moved.faults), (1 << 20, 0));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Moved {
    /// Page faults of devices.
    pub faults: u64,
    /// Page faults of the host.
    pub host_faults: u64,
    /// Evicted pieces of 2 MiB. A piece that holds memory of several tags counts for the first of them.
    pub evictions: u64,
    /// Bytes that prefetches migrated to devices.
    pub prefetched_to_device: u64,
    /// Bytes that prefetches migrated to the host.
    pub prefetched_to_host: u64,
    /// Bytes that page faults migrated to devices.
    pub faulted_to_device: u64,
    /// Bytes that page faults migrated to the host.
    pub faulted_to_host: u64,
    /// Bytes that were evicted to the host.
    pub evicted_to_host: u64,
    /// Bytes that migrated from one device to another.
    pub between_devices: u64,
    /// Bytes that were copied to devices.
    pub copied_to_device: u64,
    /// Bytes that were copied to host memory.
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
    /// Returns the figure that counts a movement. Faults and evictions are counted by occurrence, the rest in bytes.
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

/// The movements of the memory of one tag in one phase.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::accounting::Ledger;
///
/// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let ledger = Ledger::new(&device);
/// let tag = ledger.tag(buffer.block().addr(), buffer.size_bytes(), "weights");
/// buffer.host_write()?.fill(7);
/// let moved = ledger.report().moved.unwrap();
/// assert_eq!((moved[0].tag.as_str(), moved[0].phase.as_str()), ("weights", ""));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MovedRow {
    /// The tag of the memory; empty if it has none.
    pub tag: String,
    /// The innermost phase when the work was done; empty outside of all phases.
    pub phase: String,
    /// The figures.
    pub moved: Moved,
}

/// The figures of a ledger. Its `Display` writes them as a table.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::accounting::Ledger;
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let ledger = Ledger::new(&device);
/// drop(buffer.host_read()?);
/// let report = ledger.report();
/// assert_eq!(report.rows.len(), 1);
/// assert!(report.to_string().contains("host read"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerReport {
    /// The requests, ordered by tag, phase, cause and target.
    pub rows: Vec<LedgerRow>,
    /// The movements, ordered by tag and phase. `None` on a GPU, because its driver does not report them.
    pub moved: Option<Vec<MovedRow>>,
}

impl LedgerReport {
    /// Returns the sum of the movements over some rows, for example the rows of one phase. Returns `None` on a GPU.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::Ledger;
    ///
    /// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// buffer.host_write()?.fill(7);
    /// let ledger = Ledger::new(&device);
    /// let warming_up = ledger.phase("warming up");
    /// let _outcome = buffer.prefetch(device.id())?;
    /// stream.synchronize()?;
    /// drop(warming_up);
    /// let moved = ledger.report().sum_moved(|row| row.phase == "warming up").unwrap();
    /// assert_eq!(moved.prefetched_to_device, 1 << 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn sum_moved(&self, which: impl Fn(&MovedRow) -> bool) -> Option<Moved> {
        let rows = self.moved.as_ref()?.iter().filter(|row| which(row));
        Some(rows.fold(Moved::default(), |sum, row| sum.plus(&row.moved)))
    }
}

/// Writes a table of the requests, and the movements below it.
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
            return writeln!(f, "moved, faults: unknown, because the driver of a GPU does not report them");
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
