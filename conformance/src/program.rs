//! Random operations that run on a resource and are counted, on one thread and on many.

mod counts;
mod load;
mod op;
mod random;
mod worker;

pub use counts::ExpectedCounts;
pub use load::Load;
pub use op::{Op, Ops};
pub use random::Program;
