//! Migration accounting: what was asked of unified memory and what moved, by direction, cause, tag and phase; and
//! advice that follows from it.
//!
//! A [`Ledger`] counts from when it is made until it is dropped. What is *asked* through this library is counted on
//! every device: prefetches, host guards, uploads, downloads, and [uses](crate::Buffer::device_use) by kernels that are
//! declared. What really *moved*, and the faults, only a simulated device tells, by tag and phase too; a GPU's driver
//! does not, and the report says so.
//!
//! ```
//! use cumem::accounting::{Cause, Ledger};
//! use cumem::{Device, ManagedResource, Stream, UnifiedBuffer, sim::Profile};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::simulated(Profile::default())?;
//! let stream = Stream::new(&device)?;
//! let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
//! let ledger = Ledger::new(&device);
//! let _tag = ledger.tag(buffer.block().addr(), buffer.size_bytes(), "weights");
//! let reading = ledger.phase("reading");
//! assert_eq!(buffer.host_read()?[0], 0);
//! drop(reading);
//! let report = ledger.report();
//! assert_eq!((report.rows[0].cause, report.rows[0].bytes), (Cause::HostRead, 1 << 20));
//! println!("{report}");
//! # Ok(())
//! # }
//! ```
//!
//! An [`AccessPattern`] is what a ledger [wrote down](Ledger::write_down) or a program states; [`recommend`] replays
//! it on a simulated device with and without advice, and answers only what gained.

mod ledger;
mod pattern;
mod recommend;
mod replay;
mod report;
mod tags;

pub use ledger::{Ledger, Phase, Tag};
pub use pattern::{AccessPattern, Memory, Processor, Step};
pub use recommend::{Recommendation, recommend};
pub use report::{Cause, Moved, MovedRow, Report, Row};

use crate::device::Device;
use crate::location::Location;
use ledger::Inner;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// The ledgers of this process. How many there are is read without the lock, so that programs without one pay one load.
static LEDGERS: RwLock<Vec<Weak<Inner>>> = RwLock::new(Vec::new());
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Something that was asked of memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) cause: Cause,
    /// Where the bytes were to go, or be used.
    pub(crate) to: Location,
    pub(crate) addr: u64,
    pub(crate) bytes: usize,
}

/// Whether anybody counts.
#[inline]
pub(crate) fn is_open() -> bool {
    OPEN.load(Relaxed) > 0
}

/// Tells the ledgers of the device's machine.
#[inline]
pub(crate) fn note(device: &Device, asked: Asked) {
    if is_open() {
        tell(device, asked, None);
    }
}

/// Does `work`, and tells the ledgers how long it took if it succeeded.
pub(crate) fn timed<T, E>(device: &Device, asked: Asked, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if !is_open() {
        return work();
    }
    let (start, virtual_start) = (Instant::now(), device.simulator().map(|simulator| simulator.clock()));
    let done = work()?;
    let took = match (device.simulator(), virtual_start) {
        (Some(simulator), Some(start)) => simulator.clock().saturating_sub(start),
        _ => start.elapsed(),
    };
    tell(device, asked, Some(took));
    Ok(done)
}

#[cold]
fn tell(device: &Device, asked: Asked, took: Option<Duration>) {
    let ledgers = LEDGERS.read().unwrap_or_else(PoisonError::into_inner);
    for ledger in ledgers.iter().filter_map(Weak::upgrade) {
        ledger.note(device, asked, took);
    }
}

fn open(ledger: &Arc<Inner>) {
    LEDGERS.write().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(ledger));
    OPEN.fetch_add(1, Relaxed);
}

fn close(ledger: &Arc<Inner>) {
    let closing = Arc::downgrade(ledger);
    LEDGERS.write().unwrap_or_else(PoisonError::into_inner).retain(|other| !other.ptr_eq(&closing));
    OPEN.fetch_sub(1, Relaxed);
}
