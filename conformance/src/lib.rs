//! The conformance tests that every cumem memory resource must pass, for those of cumem and for yours.
//!
//! One line in a test file runs everything, always on simulated devices and on request on a GPU:
//!
//! ```
//! use cumem::CudaResource;
//! use cumem_conformance::{adaptor_conformance, conformance, BlockLedger};
//!
//! conformance!(cuda, |device| CudaResource::new(device));
//! adaptor_conformance!(my_adaptor, |upstream| Ledger::new(upstream));
//! ```
//!
//! `cargo test` prints the tests for a GPU as "ignored, needs a CUDA device". With a GPU and the feature `cuda`, `cargo
//! test -- --ignored` runs them too.
//!
//! | part | purpose |
//! |---|---|
//! | [`conformance!`], [`Suite`] | the promises of [`MemoryResource`](cumem::MemoryResource), one check each |
//! | [`adaptor_conformance!`], [`AdaptorSuite`] | the same, and an upstream that fails |
//! | [`Expectations`] | where a resource may differ |
//! | [`Program`], [`Load`] | random operations and the [counts](ExpectedCounts) that they must lead to, on one thread and on many |
//! | [`BlockLedger`] | finds leaks, wrong frees and overlaps, under or over an adaptor |
//! | [`FailNth`] | makes the n-th call fail |
//! | [`effort`] | `CUMEM_EFFORT` and `CUMEM_SEED` |
//!
//! The checks adapt RMM's (`mr_ref_test_{basic,allocation,multithread}`), and add what cumem promises
//! beyond it: refusal of foreign blocks and devices, and errors that leave everything as it was.

mod adaptor;
mod broken;
#[doc(hidden)]
pub mod by_kind;
mod checks;
mod contents;
pub mod effort;
mod expectations;
mod fail_nth;
mod faults;
mod holdings;
mod kernels;
mod ledger;
mod live;
mod macros;
mod place;
mod program;
mod report;
mod rng;
mod subject;
mod suite;
mod upstream;

pub use adaptor::AdaptorSuite;
pub use broken::{BoxError, Broken};
pub use contents::Contents;
pub use expectations::Expectations;
pub use fail_nth::{FailNth, Faults};
pub use ledger::{BlockLedger, LedgerBook, Unsettled};
pub use live::{BlockId, LiveBlocks, Violation};
pub use place::Place;
pub use program::{ExpectedCounts, Load, Op, Ops, Program};
pub use report::SuiteReport;
pub use rng::Rng;
pub use suite::Suite;
pub use upstream::{TestUpstream, test_upstream};

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
