//! Automatic prefetch: prefetch that follows from how a buffer is used.
//! [`Buffer::auto_prefetch`](crate::Buffer::auto_prefetch) turns it on.
//!
//! Automatic prefetch observes declared [uses](crate::Buffer::device_use) of a buffer, the user's prefetches of it,
//! host guards over it, and the record of where pages are. On a simulated device it also observes the page faults of
//! work that was not declared (`faults`); a GPU's driver does not report them. From the uses it predicts the next ones
//! (`predictor`). It prefetches them on a separate stream while earlier work runs, as far as its budget allows. If the
//! predictions are not used, it stops the prefetches and only predicts, until predictions are used again.
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
