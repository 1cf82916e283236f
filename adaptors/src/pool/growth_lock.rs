//! [`Locked`]: the pool's mutex while a thread holds it, and what happens to calls that need it meanwhile.
//!
//! The pool calls its upstream and the driver under this mutex, and both may lead to user code: the upstream may be a
//! user's type, or log, and a wait of the simulated device runs the closures of kernels. User code that calls the pool
//! again must not wait for the mutex, because the thread would wait for itself:
//!
//! - The simulated device starts no closure of a kernel in calls under the mutex. If the pool has to wait for one, it
//!   releases the mutex, waits, and begins again.
//! - A call that needs the mutex on the thread that holds it returns [`DeviceError::Reentered`]. A free waits in a list
//!   until the mutex is released. Statistics are those of the last time that the mutex was released.
//! - The closure of a kernel gets the same answers if another thread holds the mutex, because that thread may wait for
//!   the closure.

use super::outside::NO_THREAD;
use super::shared::{Shared, SharedFigures};
use super::state::PoolState;
use super::sync::{Deferral, MutexGuard, here, within_kernel};
use cumem::{Block, DeallocError, DeviceError, Stream};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{PoisonError, TryLockError};

/// How often the pool begins again before it waits under the mutex after all.
const ATTEMPTS: u32 = 4;

/// The pool's mutex, locked.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    // In this order: late blocks are freed after the release of the mutex, and deferred events come last.
    shared: MutexGuard<'a, Shared>,
    late: LateFrees<'a>,
    deferral: Deferral,
}

/// Frees the late blocks when it is dropped.
#[derive(Debug)]
struct LateFrees<'a>(&'a PoolState);

impl PoolState {
    /// Locks the pool's mutex.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::Reentered`] if this thread holds the mutex, or if another thread holds the mutex and this
    /// one runs the closure of a kernel.
    pub(super) fn lock(&self) -> Result<Locked<'_>, DeviceError> {
        Ok(self.lock_with(Deferral::refusing_waits)?.0)
    }

    /// Locks the pool's mutex for a miss, and counts whether another thread held it. `refusing` is false for the last
    /// [attempt](Self::attempt).
    pub(super) fn lock_for_miss(&self, refusing: bool) -> Result<Locked<'_>, DeviceError> {
        let deferral = if refusing { Deferral::refusing_waits } else { Deferral::begin };
        let (mut locked, contended) = self.lock_with(deferral)?;
        locked.contended_misses = locked.contended_misses.saturating_add(contended.into());
        Ok(locked)
    }

    fn lock_with(&self, deferral: fn() -> Deferral) -> Result<(Locked<'_>, bool), DeviceError> {
        let reentered = || DeviceError::Reentered { what: "a pool" };
        let here = here();
        if here != NO_THREAD && self.outside.holder.load(Relaxed) == here {
            return Err(reentered());
        }
        // Closures that are due now run before the lock, because none starts under it.
        self.device.run_due_kernels();
        let deferral = deferral();
        let (shared, contended) = match self.shared.try_lock() {
            Ok(shared) => (shared, false),
            Err(TryLockError::Poisoned(poisoned)) => (poisoned.into_inner(), false),
            Err(TryLockError::WouldBlock) if within_kernel() => return Err(reentered()),
            Err(TryLockError::WouldBlock) => (self.shared.lock().unwrap_or_else(PoisonError::into_inner), true),
        };
        self.outside.holder.store(here, Relaxed);
        Ok((Locked { shared, late: LateFrees(self), deferral }, contended))
    }

    /// Locks the mutex for a miss and calls `work`, which returns its result and whether another attempt may help. If so,
    /// and if the simulated device refused to wait under the mutex, waits without the mutex and begins again. The last
    /// attempt waits under the mutex.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub(super) fn attempt<T>(&self, mut work: impl FnMut(&mut Shared) -> (T, bool)) -> Result<T, DeviceError> {
        for _ in 1..ATTEMPTS {
            let mut locked = self.lock_for_miss(true)?;
            let (result, may_help) = work(&mut locked);
            let refused = may_help && locked.has_refused();
            drop(locked);
            if !refused || self.device.run_all_kernels().is_err() {
                return Ok(result);
            }
        }
        Ok(work(&mut *self.lock_for_miss(false)?).0)
    }

    /// Returns the figures of the last time that the mutex was released.
    pub(super) fn last_figures(&self) -> SharedFigures {
        *self.outside.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees a block when the mutex is released the next time.
    pub(super) fn free_late(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let mut late = self.outside.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.push((stream.clone(), block));
        self.outside.has_late.store(true, Relaxed);
        Ok(())
    }
}

impl Locked<'_> {
    /// Reports whether the simulated device refused to wait for a kernel under this lock, and a new attempt without any
    /// lock of the library can succeed.
    pub(super) fn has_refused(&self) -> bool {
        self.deferral.is_outermost() && self.deferral.has_refused()
    }
}

impl Deref for Locked<'_> {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Shared {
        &mut self.shared
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let outside = &self.late.0.outside;
        *outside.figures.lock().unwrap_or_else(PoisonError::into_inner) = self.shared.figures();
        outside.holder.store(NO_THREAD, Relaxed);
    }
}

impl Drop for LateFrees<'_> {
    fn drop(&mut self) {
        let Self(state) = self;
        if !state.outside.has_late.load(Relaxed) {
            return;
        }
        state.outside.has_late.store(false, Relaxed);
        let late = std::mem::take(&mut *state.outside.late.lock().unwrap_or_else(PoisonError::into_inner));
        for (stream, block) in late {
            // A block that cannot be freed now waits for a later release of the mutex.
            let _ = state.deallocate_across(&stream, block).or_else(|error| state.free_late(&stream, error.block));
        }
    }
}
