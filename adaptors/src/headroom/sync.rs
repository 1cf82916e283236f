//! The synchronization primitives of the headroom. Loom replaces them in this one place and runs the interleavings
//! (`headroom/interleavings.rs`).

#[cfg(not(all(loom, test)))]
pub(crate) use crate::lock::{BiasedLock as Lock, Guard, ThisThread};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(all(loom, test))]
pub(crate) use model::{Guard, Lock, ThisThread};

/// Primitives that loom does not have.
#[cfg(all(loom, test))]
mod model {
    use loom::sync::{Mutex, MutexGuard};
    use std::cell::Cell;

    loom::thread_local! {
        static NUMBER: Cell<usize> = Cell::new(0);
    }

    /// The calling thread, whose number the model chooses.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct ThisThread(usize);

    impl ThisThread {
        pub(crate) fn get() -> Self {
            Self(NUMBER.with(Cell::get))
        }

        pub(crate) fn set(number: usize) {
            NUMBER.with(|place| place.set(number));
        }

        pub(crate) fn number(self) -> usize {
            self.0
        }
    }

    /// A lock that blocks. The real lock has its own model (`lock/interleavings.rs`).
    #[derive(Debug)]
    pub(crate) struct Lock<T>(Mutex<T>);

    pub(crate) type Guard<'a, T> = MutexGuard<'a, T>;

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap()
        }

        pub(crate) fn lock_as(&self, _: ThisThread) -> Guard<'_, T> {
            self.lock()
        }
    }
}
