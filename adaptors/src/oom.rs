//! [`with_oom_recovery`]: the same work with fewer items, when memory runs out.

use cumem::{AllocError, DriverError};
use std::error::Error;
use std::fmt::Display;

/// An error that may say that memory ran out.
pub trait OutOfMemory {
    /// Whether less demand could have succeeded.
    fn is_out_of_memory(&self) -> bool;
}

impl OutOfMemory for AllocError {
    fn is_out_of_memory(&self) -> bool {
        self.is_out_of_memory()
    }
}

impl OutOfMemory for DriverError {
    fn is_out_of_memory(&self) -> bool {
        self.is_out_of_memory()
    }
}

/// Where one of the two is the error or one of its sources.
impl OutOfMemory for Box<dyn Error + Send + Sync> {
    fn is_out_of_memory(&self) -> bool {
        said_by(&**self)
    }
}

/// Where one of the two is the error or one of its sources.
impl OutOfMemory for Box<dyn Error> {
    fn is_out_of_memory(&self) -> bool {
        said_by(&**self)
    }
}

fn said_by(error: &(dyn Error + 'static)) -> bool {
    let alloc = error.downcast_ref().is_some_and(AllocError::is_out_of_memory);
    let driver = error.downcast_ref().is_some_and(DriverError::is_out_of_memory);
    alloc || driver || error.source().is_some_and(said_by)
}

/// What work gave, and with how many items.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered<T> {
    /// What it gave.
    pub value: T,
    /// Items that it was done with.
    pub items: usize,
    /// Numbers of items for which memory ran out before, in order.
    pub too_many: Vec<usize>,
}

/// Work failed, whether or not it had been tried with fewer items.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed with {items} items, after memory had run out for {too_many:?}: {error}")]
pub struct NotRecovered<E> {
    /// Items that it failed with.
    pub items: usize,
    /// Numbers of items for which memory ran out before, in order.
    pub too_many: Vec<usize>,
    /// How it failed.
    pub error: E,
}

/// Calls `work` with `wanted` items and, each time that memory runs out, with half of them, down to `minimum`. Other
/// errors end it at once. Each step down is a warning through `tracing`.
///
/// What `work` allocated must be gone when it fails, as buffers are. With a `minimum` of 0 the last call has no
/// items, which is the place for what needs no device.
///
/// ```
/// use cumem::{Buffer, CudaResource, Device, Stream, sim::Profile};
/// use cumem_adaptors::{ResourceExt, with_oom_recovery};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).limit(1 << 20);
/// let done = with_oom_recovery(1000, 1, |items| Buffer::<u8, _>::zeroed(items * 4096, &stream, &memory).map(drop))?;
/// assert_eq!((done.items, done.too_many), (250, vec![1000, 500]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`NotRecovered`] with the error of the last call.
pub fn with_oom_recovery<T, E: OutOfMemory + Display>(
    wanted: usize,
    minimum: usize,
    mut work: impl FnMut(usize) -> Result<T, E>,
) -> Result<Recovered<T>, NotRecovered<E>> {
    let (mut items, mut too_many) = (wanted, Vec::new());
    loop {
        let error = match work(items) {
            Ok(value) => return Ok(Recovered { value, items, too_many }),
            Err(error) => error,
        };
        if !error.is_out_of_memory() || items <= minimum {
            return Err(NotRecovered { items, too_many, error });
        }
        let fewer = (items / 2).max(minimum);
        tracing::warn!(items, fewer, %error, "out of memory: trying with fewer items");
        too_many.push(items);
        items = fewer;
    }
}
