//! [`with_oom_recovery`]: retries work with fewer items when memory runs out.

use cumem::{AllocError, DeviceError, DriverError};
use std::error::Error;
use std::fmt::Display;

/// An error that can report whether memory ran out.
pub trait OutOfMemory {
    /// Reports whether the same call could have succeeded with a smaller request.
    fn is_out_of_memory(&self) -> bool;
}

impl OutOfMemory for AllocError {
    fn is_out_of_memory(&self) -> bool {
        self.is_out_of_memory()
    }
}

impl OutOfMemory for DeviceError {
    fn is_out_of_memory(&self) -> bool {
        self.is_out_of_memory()
    }
}

/// True if the error or one of its sources is an [`AllocError`], a [`DeviceError`] or a [`DriverError`] that is out of
/// memory.
impl OutOfMemory for Box<dyn Error + Send + Sync> {
    fn is_out_of_memory(&self) -> bool {
        said_by(&**self)
    }
}

/// True if the error or one of its sources is an [`AllocError`], a [`DeviceError`] or a [`DriverError`] that is out of
/// memory.
impl OutOfMemory for Box<dyn Error> {
    fn is_out_of_memory(&self) -> bool {
        said_by(&**self)
    }
}

fn said_by(error: &(dyn Error + 'static)) -> bool {
    let alloc = error.downcast_ref().is_some_and(AllocError::is_out_of_memory);
    let device = error.downcast_ref().is_some_and(DeviceError::is_out_of_memory);
    let driver = error.downcast_ref().is_some_and(DriverError::is_out_of_memory);
    alloc || device || driver || error.source().is_some_and(said_by)
}

/// The result of work, and the number of items with which it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered<T> {
    /// The value that the work returned.
    pub value: T,
    /// Items with which the work succeeded.
    pub items: usize,
    /// Numbers of items for which memory ran out before, in order.
    pub too_many: Vec<usize>,
}

/// The error of work that failed, whether or not it was retried with fewer items.
///
/// Its text contains the error of the last call, because [`source`](Error::source) cannot return one: a
/// `Box<dyn Error>` is not an [`Error`].
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{ResourceExt, with_oom_recovery};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).limit(1000);
/// let failed = with_oom_recovery(4, 1, |items| Buffer::<u8, _>::zeroed(items * 4096, &stream, &memory).map(drop));
/// let failed = failed.unwrap_err();
/// assert_eq!((failed.items, failed.too_many), (1, vec![4, 2]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed with {items} items, after memory had run out for {too_many:?}: {error}")]
pub struct NotRecovered<E> {
    /// Items of the last call.
    pub items: usize,
    /// Numbers of items for which memory ran out before, in order.
    pub too_many: Vec<usize>,
    /// The error of the last call.
    pub error: E,
}

/// Calls `work` with `wanted` items. Each time that memory runs out, calls it again with half as many, but not fewer
/// than `minimum`. Any other error is returned at once. Each retry is a warning through `tracing`.
///
/// `work` must have freed its allocations when it returns an error; a [`Buffer`](cumem::Buffer) frees its memory when
/// it is dropped. With a `minimum` of 0 the last call has no items, so `work` can use a method that needs no device
/// memory.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{with_oom_recovery, ResourceExt};
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
/// Returns [`NotRecovered`] with the error of the last call.
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
