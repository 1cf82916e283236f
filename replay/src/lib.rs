//! Replays allocation traces on any cumem memory resource.
//!
//! A [`Trace`] is a log in RMM's format (`Thread,Time,Action,Pointer,Size,Stream`, plain or `.xz`), checked and
//! compiled to compact operations. [`Replay`] runs it several times on a stack and reports [`Figures`].
//! A [`Player`] runs single passes, for a harness that counts passes itself.
//!
//! | column | content |
//! |---|---|
//! | `Thread` | the thread that made the call: a decimal or `0x` number |
//! | `Time` | not read, and may be absent |
//! | `Action` | `allocate`, `free`, or `allocate failure` for an allocation that failed, which is counted and not replayed |
//! | `Pointer` | the address in hexadecimal, with or without `0x`; `(nil)` for no bytes |
//! | `Size` | bytes, decimal |
//! | `Stream` | a decimal or `0x` number; each number is one stream of the replay |
//!
//! The columns may be in any order. Columns with other names are ignored. Each row has as many columns as the header.
//!
//! Each logged stream is replayed on its own stream of the device. The calling thread makes the operations of all
//! logged threads, in logged order. Only that order is known to have worked, and a replay on several threads would
//! measure the hand-over between them.
//!
//! ```no_run
//! use cumem::sim::Profile;
//! use cumem::{Device, ManagedResource};
//! use cumem_replay::{Replay, Trace};
//!
//! let trace = Trace::read("benches/traces/resnet.csv.xz")?;
//! let device = Device::simulated(Profile::default())?;
//! let figures = Replay::new(&trace).repeat(5).run(&ManagedResource::new(&device)?)?;
//! println!("{:.0} ns per operation", figures.ns_per_operation());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compile;
mod error;
mod figures;
mod format;
mod player;
mod replay;
mod trace;

pub use error::{Malformed, ReplayError, TraceError};
pub use figures::{Figures, Pass};
pub use player::Player;
pub use replay::{Progress, Replay};
pub use trace::Trace;

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
