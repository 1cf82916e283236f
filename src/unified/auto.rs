//! Prefetch that follows from how a buffer is used: what [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) turns
//! on.
//!
//! It sees the [uses](crate::Buffer::device_use) of a buffer that are declared, prefetches of it by the user, the
//! host's guards over it, and what the library knows of where pages are; on a simulated device also the page faults of
//! work that nobody declared, which a GPU's driver does not tell ([`faults`]). Of the uses it learns what comes next
//! ([`predictor`]), and brings that on a stream of its own while the present work runs, so far ahead as its budget
//! goes. Where its guesses are not used it stops bringing and only guesses, until they come true again.
#![forbid(unsafe_code)]

mod ahead;
mod arrival;
mod budget;
mod device_use;
mod faults;
mod guesses;
mod observer;
mod options;
mod overlap;
mod predictor;
mod report;
mod stack;
mod state;

pub use device_use::DeviceUse;
pub(crate) use observer::AutoPrefetch;
pub use options::AutoPrefetchOptions;
pub use report::AutoPrefetchReport;
pub use stack::AutoPrefetchState;
