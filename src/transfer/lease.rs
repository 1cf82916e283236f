//! [`Pool`]: a few things that transfers borrow in turn.
#![forbid(unsafe_code)]

use crate::device::error::DeviceError;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// At most so many of a thing, made when needed.
pub(super) struct Pool<T> {
    most: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    idle: Vec<T>,
    /// Those that are lent too.
    made: usize,
}

/// One of them, until it is dropped.
pub(super) struct Lease<'a, T> {
    thing: Option<T>,
    pool: &'a Pool<T>,
}

impl<T> Pool<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { idle: Vec::new(), made: 0 }) }
    }

    /// One that is idle, or a new one. `None` if all are lent or none can be made: nobody waits here, since who is lent
    /// one may be waiting for another's work.
    pub(super) fn lease(&self, make: impl FnOnce() -> Result<T, DeviceError>) -> Option<Lease<'_, T>> {
        let mut state = self.lock();
        if let Some(thing) = state.idle.pop() {
            return Some(Lease { thing: Some(thing), pool: self });
        }
        if state.made == self.most {
            return None;
        }
        state.made += 1;
        drop(state);
        match make() {
            Ok(thing) => Some(Lease { thing: Some(thing), pool: self }),
            Err(error) => {
                self.lock().made -= 1;
                tracing::debug!(%error, "a transfer goes the driver's way");
                None
            }
        }
    }

    /// Drops those that are idle.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        let idle = std::mem::take(&mut state.idle);
        state.made -= idle.len();
        drop(state);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("there until the drop")
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("there until the drop")
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        self.pool.lock().idle.extend(self.thing.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem_driver::DeviceId;
    use cumem_driver::{CudaErrorCode, DriverError};

    #[test]
    fn things_are_made_once_and_counted() {
        let pool = Pool::new(2);
        let (one, two) = (pool.lease(|| Ok(1)).unwrap(), pool.lease(|| Ok(2)).unwrap());
        assert!(pool.lease(|| Ok(3)).is_none());
        drop(two);
        assert_eq!(*pool.lease(|| Ok(3)).unwrap(), 2);
        pool.clear();
        let refused = DriverError::Call { call: "any", device: DeviceId::cuda(0), code: CudaErrorCode::OUT_OF_MEMORY };
        assert!(pool.lease(|| Err(refused.into())).is_none());
        assert_eq!(*pool.lease(|| Ok(4)).unwrap(), 4, "neither what was dropped nor what failed is counted");
        assert_eq!(*one, 1);
    }
}
