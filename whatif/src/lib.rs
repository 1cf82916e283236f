//! Will it fit? Runs a program, or an allocation trace, on other devices, under other limits and on other stacks than
//! there are, and says what it took.
//!
//! Everything here happens on the [simulated device](cumem::sim). Bytes, blocks, faults and evictions are exact under
//! its rules; times are a model's, and each report says where the numbers of its device come from.
//!
//! ```
//! use cumem::sim::Profile;
//! use cumem::{Buffer, Stream, LayerExt};
//! use cumem_whatif::{Setting, dry_run};
//!
//! let setting = Setting::new(Profile::tiny(64 << 20), "device | pool".parse()?).limit(32 << 20_usize);
//! let run = dry_run(&setting, |stack| {
//!     let stack = stack.clone().into_device_accessible().expect("it is not `host`");
//!     let stream = Stream::new(stack.device())?;
//!     let weights = Buffer::<f32, _>::zeroed(6 << 20, &stream, stack.clone())?; // 24 MiB
//!     let activations = Buffer::<f32, _>::zeroed(3 << 20, &stream, stack)?; // 12 MiB more
//!     drop((weights, activations));
//!     Ok::<_, cumem::AllocError>(())
//! })?;
//! assert!(!run.fits());
//! assert_eq!(run.out_of_memory[0].bytes, 12 << 20);
//! println!("{run}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | part | for |
//! |---|---|
//! | [`Setting`] | a device, a limit and a stack |
//! | [`dry_run`] | a program on one setting |
//! | [`replay`] | a trace on one setting |
//! | [`DryRun`] | what came of it: the figures, layer by layer, and what to draw |
//! | [`Report`] | several of them side by side, as text, JSON, or one page of HTML |

mod dry_run;
mod report;
mod setting;
mod timeline;
mod watch;

pub use dry_run::{DryRun, LayerFigures, OutOfMemory, Provenances, dry_run, replay};
pub use report::{Format, Report};
pub use setting::{Setting, WhatIfError};
pub use timeline::{Moment, Residency, Row};

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
