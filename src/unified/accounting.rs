//! Migration accounting: what was asked of unified memory and what moved, by direction, cause, tag and phase; and
//! advice that follows from it.
//!
//! A [`Ledger`] counts from when it is made until it is dropped. What is *asked* through this library is counted on
//! every device: prefetches, host guards, uploads, downloads, and [uses](crate::Buffer::device_use) by kernels that are
//! declared. What really *moved*, and the faults, only a simulated device tells, by tag and phase too; a GPU's driver
//! does not, and the report says so.
//!
//! ```
//! use cumem::unified::accounting::{Cause, Ledger};
//! use cumem::sim::Profile;
//! use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
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
//! An [`AccessPattern`] is what a ledger [recorded](Ledger::write_down) or a program states. `recommend` of `cumem-whatif`
//! replays it on a simulated device with and without advice, and returns the advice that gained time.

mod ledger;
mod pattern;
mod report;
mod tags;

pub use ledger::{Ledger, Phase, Tag};
pub use pattern::{AccessPattern, Memory, Processor, Step};
pub use report::{Cause, LedgerReport, LedgerRow, Moved, MovedRow};
