//! The simulated device: a model of the CUDA driver on host memory and virtual time.
//!
//! Simulated memory is real host memory, reserved lazily: an 80 GiB device costs nothing until a program touches it.
//! Fresh memory holds [`POISON`], so that a program cannot rely on zeroes. Work enters streams as on a GPU. It is done
//! when virtual time, counted in integer nanoseconds, reaches its end. For example, an event is not reached earlier,
//! and a copy whose pinned source is reused too early copies the wrong bytes. The same program takes the same virtual
//! time and produces the same bytes in every run.
//!
//! | file | what it contains |
//! |---|---|
//! | `simulator` | the public handle: creating and inspecting a machine |
//! | `profile`, `profiles` | the properties and costs of a device, as data; each number with its source |
//! | `door`, `calls`, `enqueue`, `hints` | the driver calls, on top of the other files |
//! | `machine` | the state behind the one lock, the clock, the first step of every call |
//! | `injection`, [`faults`] | calls that are made to fail; each call of a program in turn |
//! | `memory`, `heap`, `mapping` | allocations; slabs for small ones; the pages behind both |
//! | `reserved` | reserved addresses, and memory mapped at one or several of them |
//! | `pools`, `segments` | stream-ordered pools, and the device memory behind them |
//! | `handles`, `streams`, `events`, `schedule` | the order of work, and the discrete-event simulation |
//! | `operations`, `order`, `bytes`, `cost` | operations: order of page accesses, effect on bytes, duration |
//! | `uvm` | unified memory: residency, faults, advice, migration, eviction |
//! | `races` | detection of uses of memory that are not ordered |
//! | `statistics`, `live`, `journal`, `snapshots` | counters, live allocations, a log, where memory was over time |
//! | `watchers` | listeners that are notified of each movement of memory, with addresses |
//! | `assertions` | assertions for tests about all of these |

mod addresses;
mod agenda;
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
mod operation;
mod operations;
mod order;
mod pools;
mod profile;
mod profiles;
mod races;
mod recording;
mod reserved;
mod schedule;
mod segments;
mod simulator;
mod snapshots;
mod state;
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
