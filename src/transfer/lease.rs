//! [`Leases`]: a limited number of objects that transfers borrow in turn.
#![forbid(unsafe_code)]

use crate::device::error::DeviceError;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Up to `limit` objects of one type, each created when a transfer needs it.
pub(super) struct Leases<T> {
    limit: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    idle: Vec<T>,
    /// Number of objects that exist, idle and borrowed.
    created: usize,
}

/// A borrowed object, which is idle again when the lease is dropped.
pub(super) struct Lease<'a, T> {
    object: Option<T>,
    leases: &'a Leases<T>,
}

impl<T> Leases<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::new(State { idle: Vec::new(), created: 0 }) }
    }

    /// Borrows an idle object, or a new one from `create`.
    ///
    /// Returns `None` if all objects are borrowed or `create` fails. It never waits for another lease to end: the
    /// holder may itself be waiting for another transfer, so a wait here could deadlock.
    pub(super) fn lease(&self, create: impl FnOnce() -> Result<T, DeviceError>) -> Option<Lease<'_, T>> {
        let mut state = self.lock();
        if let Some(object) = state.idle.pop() {
            return Some(Lease { object: Some(object), leases: self });
        }
        if state.created == self.limit {
            return None;
        }
        state.created += 1;
        drop(state);
        match create() {
            Ok(object) => Some(Lease { object: Some(object), leases: self }),
            Err(error) => {
                self.lock().created -= 1;
                tracing::debug!(%error, "no staging memory for a transfer: the driver copies directly");
                None
            }
        }
    }

    /// Returns the number of idle objects.
    pub(super) fn idle(&self) -> usize {
        self.lock().idle.len()
    }

    /// Drops the idle objects, and returns their number.
    pub(super) fn clear(&self) -> usize {
        let mut state = self.lock();
        let idle = std::mem::take(&mut state.idle);
        state.created -= idle.len();
        drop(state);
        idle.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.object.as_ref().expect("only the drop takes the object")
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.object.as_mut().expect("only the drop takes the object")
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        self.leases.lock().idle.extend(self.object.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem_driver::{CudaErrorCode, DeviceId, DriverError};

    #[test]
    fn objects_are_created_once_and_counted() {
        let leases = Leases::new(2);
        let (one, two) = (leases.lease(|| Ok(1)).unwrap(), leases.lease(|| Ok(2)).unwrap());
        assert!(leases.lease(|| Ok(3)).is_none());
        drop(two);
        assert_eq!(*leases.lease(|| Ok(3)).unwrap(), 2);
        assert_eq!((leases.idle(), leases.clear(), leases.idle()), (1, 1, 0));
        let refused = DriverError::Call { call: "any", device: DeviceId::cuda(0), code: CudaErrorCode::OUT_OF_MEMORY };
        assert!(leases.lease(|| Err(refused.into())).is_none());
        assert_eq!(*leases.lease(|| Ok(4)).unwrap(), 4, "neither dropped objects nor failures are counted");
        assert_eq!(*one, 1);
    }
}
