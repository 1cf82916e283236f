//! [`Model`]: the calls that only a simulated machine has, and the movements of memory that it reports.

use crate::error::DriverError;
use crate::location::Location;
use crate::raw::RawStream;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Weak;
use std::time::Duration;

/// The calls of a simulated machine beyond those of a driver.
///
/// # Examples
///
/// ```
/// use cumem_driver::{Driver, Location};
/// use cumem_sim::{Profile, Simulator};
///
/// let machine = Simulator::new([Profile::a100()])?;
/// let model = machine.model().expect("a simulated machine is a model");
/// assert!(model.clock().is_zero());
/// let memory = machine.allocate_managed(0, 1 << 20)?;
/// let pages = model.residency(memory.as_ptr(), 1 << 20).expect("memory of this machine");
/// assert_eq!(pages.nowhere(), 1 << 20, "no processor has accessed the memory");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait Model: Debug + Send + Sync {
    /// Returns the host's virtual time since the machine was created.
    fn clock(&self) -> Duration;
    /// Returns the locations of the pages of a range, after the work that is done so far. Returns `None` if the range
    /// is not within one allocation of the machine.
    fn residency(&self, ptr: *const u8, bytes: usize) -> Option<Residency>;
    /// Returns the addresses at which the bytes of a range were first mapped. For a range of aliases, these are the
    /// addresses of the original mappings, part by part. For any other range, the result is the range itself.
    fn first_addresses(&self, addr: u64, bytes: usize) -> Vec<Range<u64>>;
    /// Runs the work that is due by the host's clock, closures of kernels included.
    fn run_due(&self);
    /// Returns an error if closures of kernels have to run and the thread refuses to wait for them
    /// ([`deferral`](crate::deferral)).
    fn pending_kernels(&self, d: u32) -> Result<(), DriverError>;
    /// Waits for all work of the machine, on behalf of device `d`. Errors of the work stay for the next synchronization.
    fn run_all(&self, d: u32) -> Result<(), DriverError>;
    /// Reports movements of memory to `watcher` from now on, until it is dropped.
    fn watch(&self, watcher: Weak<dyn Watcher>);
    /// Records an event of a block for the race detector, on a stream of device `d` or on none.
    fn declare(&self, d: u32, addr: u64, bytes: u64, stream: Option<RawStream>, event: BlockEvent);
    /// Records for the race detector that a host access to a range has begun. Returns the number of the access.
    fn begin_host_access(&self, addr: u64, bytes: u64, write: bool) -> u64;
    /// Records for the race detector that a host access with this number has ended. Work that was enqueued during the
    /// access was not waited for.
    fn end_host_access(&self, access: u64);
    /// Reports whether the race detector is on.
    fn detects_races(&self) -> bool;
    /// Notifies `listener` of each switch of the race detector from now on, until it is dropped.
    fn watch_detector(&self, listener: Weak<dyn DetectorListener>);
}

/// An event in a block's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockEvent {
    /// The block was allocated for the stream.
    Allocated,
    /// The block was freed on the stream. Its resource may use the memory again at any time.
    Freed,
    /// A pool handed the block out for the stream. Uses of the block must stay within it.
    HandedOut,
    /// The block was freed on the stream, and a pool keeps its memory. Nothing uses the memory before the pool hands it
    /// out again.
    Kept,
    /// The memory left the pool.
    Released,
}

/// A listener that is notified when the race detector is switched on or off.
pub trait DetectorListener: Debug + Send + Sync {
    /// Receives the new state. The machine is not locked during the call.
    fn switched(&self, on: bool);
}

/// Why pages were copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MigrationCause {
    /// A processor accessed pages that it could not reach.
    #[default]
    Fault,
    /// A prefetch was enqueued.
    Prefetch,
    /// A device needed the memory for other pages.
    Eviction,
}

/// A listener that is notified of every movement of memory on a simulated machine.
///
/// # Examples
///
/// ```
/// use cumem_driver::{AccessMode, Driver, Movement, Watcher};
/// use cumem_sim::{Profile, Simulator};
/// use std::sync::{Arc, Mutex, Weak};
///
/// #[derive(Debug, Default)]
/// struct Faults(Mutex<usize>);
///
/// impl Watcher for Faults {
///     fn notify(&self, movements: &[Movement]) {
///         let faults = movements.iter().filter(|movement| matches!(movement, Movement::Fault { .. }));
///         *self.0.lock().unwrap() += faults.count();
///     }
/// }
///
/// let machine = Simulator::new([Profile::a100()])?;
/// let faults = Arc::new(Faults::default());
/// let watcher: Weak<Faults> = Arc::downgrade(&faults);
/// machine.model().expect("a simulated machine is a model").watch(watcher);
/// let memory = machine.allocate_managed(0, 1 << 20)?;
/// machine.access_from_host(memory.as_ptr(), 1 << 20, AccessMode::Write)?;
/// assert!(*faults.0.lock().unwrap() > 0);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait Watcher: Debug + Send + Sync {
    /// Receives the movements of one operation, in order. The machine is not locked during the call, so the
    /// implementation may call the machine. Movements of operations that another thread runs may arrive from that thread
    /// a moment later.
    fn notify(&self, movements: &[Movement]);
}

/// A movement of memory on a simulated machine.
///
/// # Examples
///
/// ```
/// use cumem_driver::{DeviceId, Location, MigrationCause, Movement};
///
/// let movement = Movement::Migrated {
///     cause: MigrationCause::Prefetch,
///     from: Location::Host,
///     to: DeviceId::cuda(0).into(),
///     addr: 0x20_0000,
///     bytes: 4096,
/// };
/// assert_eq!(movement.range(), (0x20_0000, 0x20_1000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// A processor accessed a page that it could not reach.
    Fault {
        /// The processor.
        by: Location,
        /// Address of the first byte of the page.
        addr: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// One contiguous run of pages of managed memory was copied.
    Migrated {
        /// Why they were copied.
        cause: MigrationCause,
        /// The location that they were copied from.
        from: Location,
        /// The location that they were copied to.
        to: Location,
        /// Address of the first byte.
        addr: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// Managed memory lost a chunk of device memory.
    Evicted {
        /// Address of the first byte.
        addr: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// A copy between host memory and a device's memory took place.
    Copied {
        /// The copy went to the device, not from it.
        to_device: bool,
        /// Address of the first byte of device memory.
        addr: u64,
        /// Length in bytes.
        bytes: u64,
    },
}

impl Movement {
    /// Returns the address of the first byte, and the address just past the last byte.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::Movement;
    /// let evicted = Movement::Evicted { addr: 0x20_0000, bytes: 2 << 20 };
    /// assert_eq!(evicted.range(), (0x20_0000, 0x40_0000));
    /// ```
    pub fn range(&self) -> (u64, u64) {
        match *self {
            Self::Fault { addr, bytes, .. }
            | Self::Migrated { addr, bytes, .. }
            | Self::Evicted { addr, bytes }
            | Self::Copied { addr, bytes, .. } => (addr, addr + bytes),
        }
    }
}

/// The locations of the pages of a range.
///
/// # Examples
///
/// ```
/// use cumem_driver::{DeviceId, Location, Residency};
///
/// // Of 3 MiB, one is on the host, one on the device, and one was never accessed.
/// let device = DeviceId::cuda(0);
/// let pages = Residency::new(vec![(Location::Host, 1 << 20), (device.into(), 1 << 20)], 1 << 20);
/// assert_eq!([pages.on(Location::Host), pages.on(device), pages.nowhere()], [1 << 20; 3]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Residency {
    at: Vec<(Location, u64)>,
    nowhere: u64,
}

impl Residency {
    /// Creates the value from the bytes at each location, the host first, and the bytes of pages that no processor has
    /// accessed yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::{DeviceId, Location, Residency};
    /// let device = DeviceId::cuda(0);
    /// let pages = Residency::new(vec![(Location::Host, 4096), (device.into(), 8192)], 0);
    /// assert_eq!(pages.on(device), 8192);
    /// ```
    pub fn new(at: Vec<(Location, u64)>, nowhere: u64) -> Self {
        Self { at, nowhere }
    }

    /// Returns the bytes of the range's pages that are at a location, in whole pages. A page that has copies at several
    /// locations counts at each.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::{DeviceId, Location, Residency};
    /// let device = DeviceId::cuda(0);
    /// let pages = Residency::new(vec![(Location::Host, 4096), (device.into(), 8192)], 0);
    /// assert_eq!(pages.on(Location::HostNuma(1)), 4096, "all nodes of the host count as the host");
    /// assert_eq!(pages.on(DeviceId::cuda(1)), 0, "no page is there");
    /// ```
    pub fn on(&self, location: impl Into<Location>) -> u64 {
        let location = match location.into() {
            Location::HostNuma(_) => Location::Host,
            location => location,
        };
        self.at.iter().find(|(at, _)| *at == location).map_or(0, |(_, bytes)| *bytes)
    }

    /// Returns the bytes of pages that no processor has touched yet, so that they are at no location.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::{Location, Residency};
    /// let fresh = Residency::new(vec![(Location::Host, 0)], 1 << 20);
    /// assert_eq!(fresh.nowhere(), 1 << 20);
    /// ```
    pub fn nowhere(&self) -> u64 {
        self.nowhere
    }

    /// Returns all locations and the bytes at each, the host first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::{DeviceId, Location, Residency};
    /// let device = DeviceId::cuda(0);
    /// let pages = Residency::new(vec![(Location::Host, 4096), (device.into(), 8192)], 0);
    /// let bytes: u64 = pages.locations().iter().map(|(_, bytes)| bytes).sum();
    /// assert_eq!(bytes, 12288);
    /// ```
    pub fn locations(&self) -> &[(Location, u64)] {
        &self.at
    }
}
