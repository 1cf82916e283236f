//! Will it fit? Runs a program, or replays an allocation trace, on devices, limits and stacks that you do not have, and
//! reports the needs of the run.
//!
//! Everything here runs on the [simulated device](cumem::sim). Bytes, blocks, faults and evictions are exact under its
//! rules. Times are a model's, and each report states where the numbers of its device come from.
//!
//! ```
//! use cumem::sim::Profile;
//! use cumem::{Buffer, LayerExt, Stream};
//! use cumem_whatif::{dry_run, Setting};
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
//! | part | purpose |
//! |---|---|
//! | [`Setting`] | a device, a limit and a stack |
//! | [`dry_run`] | runs a program on one setting |
//! | [`replay`] | replays a trace on one setting |
//! | [`DryRun`] | the result: the figures, layer by layer, and the data of the charts |
//! | [`recommend`] | advice that makes an access pattern faster |
//! | [`WhatIfReport`] | several results side by side, as text, JSON, or one page of HTML |

mod dry_run;
mod figures;
mod play;
mod recommend;
mod report;
mod setting;
mod timeline;
mod watch;

pub use dry_run::{dry_run, replay};
pub use figures::{DryRun, LayerFigures, Provenances, Shortage};
pub use recommend::{Recommendation, recommend};
pub use report::{Format, WhatIfReport};
pub use setting::{Setting, WhatIfError};
pub use timeline::{LocationBytes, Moment, TimelineRow};

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
