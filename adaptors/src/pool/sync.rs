//! The synchronization primitives of the pool. Loom replaces them in this one place and runs all interleavings
//! (`pool/interleavings.rs`).

#[cfg(not(all(loom, test)))]
pub(crate) use crate::lock::{BiasedLock, Guard};
#[cfg(not(all(loom, test)))]
pub(crate) use cumem::device::deferral::{Deferral, within_kernel};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock,
    atomic::{AtomicBool, AtomicU64},
};

#[cfg(all(loom, test))]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};
#[cfg(all(loom, test))]
pub(crate) use model::{BiasedLock, Deferral, Guard, OnceLock, here, within_kernel};

#[cfg(not(all(loom, test)))]
thread_local!(static HERE: u8 = const { 0 });

/// Returns a number that no other living thread has, and that is not zero.
#[cfg(not(all(loom, test)))]
pub(crate) fn here() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// Primitives that loom does not have.
#[cfg(all(loom, test))]
mod model {
    use super::{AtomicBool, Mutex, MutexGuard};
    use std::sync::atomic::Ordering::{Acquire, Release};

    /// A lock that blocks. A spinning thread would never end in a model that may always let another thread run first.
    #[derive(Debug)]
    pub(crate) struct BiasedLock<T>(Mutex<T>);

    pub(crate) type Guard<'a, T> = MutexGuard<'a, T>;

    impl<T> BiasedLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    /// Initialized by one thread at a time. A thread that sees the value also sees everything written before it was
    /// made.
    /// No user code runs in a model, so there is nothing to defer. Threads of a model are no threads of the system, so
    /// they have no thread-locals of their own.
    #[derive(Debug)]
    pub(crate) struct Deferral;

    impl Deferral {
        pub(crate) fn begin() -> Self {
            Self
        }

        pub(crate) fn refusing_waits() -> Self {
            Self
        }

        pub(crate) fn is_outermost(&self) -> bool {
            true
        }

        pub(crate) fn has_refused(&self) -> bool {
            false
        }
    }

    pub(crate) fn within_kernel() -> bool {
        false
    }

    /// Returns the number of no thread.
    pub(crate) fn here() -> usize {
        0
    }

    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        made: AtomicBool,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { made: AtomicBool::new(false), value: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.made.load(Acquire).then(|| self.value.get()).flatten()
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let value = self.value.get_or_init(make);
            self.made.store(true, Release);
            value
        }
    }
}
