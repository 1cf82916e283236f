//! The simulated device: a model of the driver on host memory and virtual time.
//!
//! Memory is real, and reserved lazily: an 80 GiB device costs nothing until it is touched. Fresh memory
//! holds [`POISON`], so that nothing can rely on zeroes. Work enters streams as on a GPU and is done when virtual
//! time, in integer nanoseconds, gets there: an event is not reached before, and a copy whose source is
//! reused too early copies the wrong bytes. The same program gives the same times and the same bytes.
//!
//! | file | what it knows |
//! |---|---|
//! | `simulator` | the public handle: making a machine, looking into it |
//! | `profile`, `profiles` | what a device is and costs, as data; each number with its source |
//! | `door`, `calls`, `enqueue`, `hints` | the driver's calls, on top of the rest |
//! | `machine` | the state behind the one lock, the clock, what every call does first |
//! | `injection`, [`faults`] | calls that are made to fail; each call of a program in turn |
//! | `memory`, `heap`, `mapping` | allocations; small ones out of slabs; the pages behind both |
//! | `reserved` | reserved addresses, and memory mapped behind them, at a second place too |
//! | `pools`, `segments` | stream-ordered pools, and the device memory behind them |
//! | `handles`, `streams`, `events`, `schedule` | order of work, and the discrete-event simulation |
//! | `operations`, `order`, `bytes`, `cost` | what an operation takes, in which order it goes over pages, what it does to bytes, and how long it lasts |
//! | `uvm` | residency, faults, advice, migration, eviction |
//! | `races` | finds uses of memory whose order nobody ensured |
//! | `statistics`, `live`, `journal`, `snapshots` | what was counted, what is out, what happened, where memory was |
//! | `watchers` | who is told what moved, with addresses |
//! | `assertions` | what tests assert of all that |

mod addresses;
mod bytes;
mod calls;
mod cost;
mod door;
mod enqueue;
mod error;
mod events;
mod handles;
mod heap;
mod hints;
mod injection;
mod journal;
mod live;
mod machine;
mod mapping;
mod memory;
mod model;
mod operations;
mod order;
mod pools;
mod profile;
mod profiles;
mod races;
mod reserved;
mod schedule;
mod segments;
mod simulator;
mod snapshots;
mod statistics;
mod streams;
#[cfg(test)]
mod tests;
mod uvm;
mod watchers;

pub use cumem_driver::{DeviceId, Location, Residency};
pub use error::ProfileError;
pub use injection::FaultCall;
pub use journal::{Happening, Record};
pub use live::{Live, LiveAllocations};
pub use mapping::POISON;
pub use profile::{Figure, Profile, Provenance};
pub use races::{Deed, Race, RaceKind, Use};
pub use simulator::Simulator;
pub use snapshots::{Resident, Snapshot};
pub use statistics::DeviceStatistics;
pub use uvm::FaultPrefetch;
