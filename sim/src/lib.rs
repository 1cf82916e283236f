//! The simulated device: a model of the CUDA driver on host memory and virtual time.
//!
//! Simulated memory is real host memory, reserved lazily: an 80 GiB device costs nothing until a program touches it.
//! On systems without `mmap`, for example Windows, an allocation costs host memory at once.
//! Fresh memory holds [`POISON`], so that a program cannot rely on zeroes. Work enters streams as on a GPU. It is done
//! when virtual time, counted in integer nanoseconds, reaches its end. For example, an event is not reached earlier,
//! and a copy whose pinned source is reused too early copies the wrong bytes. The same program takes the same virtual
//! time and produces the same bytes in every run.
//!
//! The examples here name `cumem_sim`. In a program that depends on `cumem`, write `cumem::sim` instead.
//!
//! # Files
//!
//! Data comes before the behaviour that works on it: no two files import each other, not even through others.
//!
//! | file | contents |
//! |---|---|
//! | `simulator` | [`Simulator`]: a machine, its clock, and access of the host |
//! | `simulator/*` | methods of [`Simulator`]: `faults` plans failures, `inspect` shows the state, `history` shows earlier events |
//! | `profile`, `profiles` | [`Profile`]: the properties and costs of a device, as data; each number with its source |
//! | `driver_impl`, `model` | the implementation of the driver traits for [`Simulator`] |
//! | `allocate`, `virtual_memory`, `enqueue`, `hints` | the driver calls with more than a few lines |
//! | `arguments` | the stream and the memory that a call's arguments name |
//! | `forked` | how often the process was forked |
//! | `machine` | the lock, the clock, the first step of every call, and waiting |
//! | `state` | the data behind the lock |
//! | `injection` | calls that are made to fail |
//! | `memory`, `heap`, `addresses`, `mapping`, `poison` | allocations; slabs for small ones; their addresses, pages and first contents |
//! | `pools`, `device_memory` | stream-ordered pools, and the device memory behind them |
//! | `handles`, `streams`, `events`, `operation`, `agenda` | streams, their operations and the next due events, as data |
//! | `capture`, `graphs` | captured streams and graphs: the data, and the calls |
//! | `schedule` | the discrete-event simulation: when each operation starts and ends |
//! | `effects`, `access_pattern`, `bytes`, `cost` | operations: order of page accesses, effect on bytes, duration |
//! | `uvm` | unified memory: residency, faults, advice, migration, eviction |
//! | `races` | detection of uses of memory that are not ordered |
//! | `statistics`, `live`, `journal`, `snapshots` | counters, live allocations, a log, the locations of memory over time |
//! | `watchers` | listeners that are notified of each movement of memory |
//! | `outbox` | calls of user code that wait until the machine is unlocked |
//! | `recording` | the entries that each operation adds to these files' records |

mod access_pattern;
mod addresses;
mod agenda;
mod allocate;
mod arguments;
mod bytes;
mod capture;
mod cost;
mod device_memory;
mod driver_impl;
mod effects;
mod enqueue;
mod error;
mod events;
mod forked;
mod graphs;
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
mod outbox;
mod poison;
mod pool_calls;
mod pools;
mod profile;
mod profiles;
mod races;
mod recording;
mod schedule;
mod simulator;
mod snapshots;
mod state;
mod statistics;
mod streams;
#[cfg(test)]
mod tests;
mod uvm;
mod virtual_memory;
mod watchers;

pub use cumem_driver::{DeviceId, Location, Residency};
pub use error::ProfileError;
pub use injection::FaultCall;
pub use journal::{JournalEvent, Record};
pub use live::{Live, LiveAllocations, LiveBlock};
pub use poison::POISON;
pub use profile::{Figure, Profile, Provenance};
pub use races::{AccessKind, MemoryUse, Race, RaceKind};
pub use simulator::Simulator;
pub use snapshots::{Resident, Snapshot};
pub use statistics::DeviceStatistics;
pub use uvm::FaultPrefetch;
