//! Accounting of migrations: the requests about unified (managed) memory and the bytes that migrated, by direction,
//! cause, tag and phase.
//!
//! A [`Ledger`] counts from its creation until it is dropped. The ledger counts *requests* that go through this library
//! on every device: prefetches, host guards, uploads, downloads, and declared [uses](crate::Buffer::device_use) by
//! kernels. The ledger counts *migrations* and page faults, by tag and phase, on simulated devices only. A GPU's driver
//! does not report them, and the report's text states that they are unknown.
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
//! # Tags and phases
//!
//! A row of the report is one combination of a tag, a phase, a cause and a target.
//!
//! - A *tag* names memory: [`Ledger::tag`] names a range of addresses until the returned [`Tag`] is dropped, and the
//!   adaptor `Tagged` of `cumem-adaptors` tags each block of a stack. If tags overlap, the latest one counts, for example
//!   that of a block within a tagged chunk. Memory without a tag has the tag `""`.
//! - A *phase* names time: [`Ledger::phase`] names the requests of all threads until the returned [`Phase`] is dropped. If
//!   phases are nested, the innermost one counts. Outside of all phases the name is `""`.
//!
//! A request belongs to the tag and the phase that it is made in. A migration belongs to the tag of its pages, and to the
//! phase in which it happens. For example, pages that a prefetch in phase "loading" moves may still move in the next
//! phase, and the bytes then count there; end a phase with [`Device::synchronize`](crate::Device::synchronize) to
//! separate the two.
//!
//! An [`AccessPattern`] is the sequence of accesses that a ledger [recorded](Ledger::write_down), or that a program
//! describes. `recommend` of the crate `cumem-whatif` replays a pattern on a simulated device with and without advice,
//! and returns the advice that saved time.

mod ledger;
mod pattern;
mod report;
mod tags;

pub use ledger::{Ledger, Phase, Tag};
pub use pattern::{AccessPattern, Memory, Processor, Step};
pub use report::{Cause, LedgerReport, LedgerRow, Moved, MovedRow};
