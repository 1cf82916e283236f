//! [`Deferral`]: keeps user code from running while a thread holds a lock of the library.
//!
//! A thread that holds a lock can reach user code in three ways. The simulated device runs the closures of kernels in
//! its calls. A subscriber of `tracing` receives the events of the library. A watcher is notified of movements of
//! memory. Any of these may call the library again, or wait for a thread that does, and would then wait for the lock
//! forever. While a [`Deferral`] exists, the simulated device starts no closure on this thread, and events wait until
//! the last deferral of the thread ends, which is after the lock was released.

use crate::panics::drop_caught;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

thread_local! {
    /// Number of deferrals of this thread.
    static ACTIVE: Cell<u32> = const { Cell::new(0) };
    /// The device refuses to wait for the closure of a kernel.
    static REFUSES_WAITS: Cell<bool> = const { Cell::new(false) };
    /// A wait was refused since the first of the present deferrals began.
    static HAS_REFUSED: Cell<bool> = const { Cell::new(false) };
    /// This thread runs the closure of a kernel.
    static WITHIN_KERNEL: Cell<bool> = const { Cell::new(false) };
    static EVENTS: RefCell<VecDeque<Box<dyn FnOnce()>>> = const { RefCell::new(VecDeque::new()) };
}

/// A guard: while it exists, calls of the library run no user code on this thread that the call could as well run
/// later. Declare the guard so that it is dropped after the lock is released.
///
/// # Examples
///
/// ```
/// use cumem_driver::deferral::{Deferral, after_locks};
/// use std::sync::Mutex;
///
/// static LOCK: Mutex<u32> = Mutex::new(0);
/// {
///     let _deferral = Deferral::begin();
///     let mut number = LOCK.lock().unwrap();
///     // The closure runs when `_deferral` is dropped, which is after `number`.
///     after_locks(|| assert_eq!(*LOCK.lock().unwrap(), 1));
///     *number += 1;
/// }
/// ```
#[derive(Debug)]
pub struct Deferral {
    outermost: bool,
    refused_waits: bool,
    _of_this_thread: PhantomData<*const ()>,
}

impl Deferral {
    /// Begins a deferral. A wait of this thread for a kernel still runs the closure of the kernel.
    pub fn begin() -> Self {
        let active = ACTIVE.get();
        ACTIVE.set(active + 1);
        Self { outermost: active == 0, refused_waits: REFUSES_WAITS.get(), _of_this_thread: PhantomData }
    }

    /// Begins a deferral during which the simulated device returns `CUDA_ERROR_NOT_READY` instead of waiting for the
    /// closure of a kernel. [`has_refused`](Self::has_refused) reports whether it did. The caller then releases the
    /// lock, waits for the device, and tries again.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::deferral::{Deferral, refuses_wait};
    ///
    /// let deferral = Deferral::refusing_waits();
    /// assert!(refuses_wait(), "the device returns an error instead of waiting");
    /// assert!(deferral.has_refused());
    /// drop(deferral);
    /// assert!(!refuses_wait());
    /// ```
    pub fn refusing_waits() -> Self {
        let deferral = Self::begin();
        REFUSES_WAITS.set(true);
        deferral
    }

    /// Reports whether no other deferral of this thread began before this one.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::deferral::Deferral;
    ///
    /// let outer = Deferral::begin();
    /// let inner = Deferral::begin();
    /// assert!(outer.is_outermost() && !inner.is_outermost());
    /// ```
    pub fn is_outermost(&self) -> bool {
        self.outermost
    }

    /// Reports whether a wait was refused since the outermost deferral of this thread began.
    pub fn has_refused(&self) -> bool {
        HAS_REFUSED.get()
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        REFUSES_WAITS.set(self.refused_waits);
        ACTIVE.set(ACTIVE.get() - 1);
        if self.outermost {
            HAS_REFUSED.set(false);
            run_events();
        }
    }
}

/// Calls `work`, in which waits for kernels are not refused.
///
/// # Examples
///
/// ```
/// use cumem_driver::deferral::{Deferral, allowing_waits, refuses_wait};
///
/// let _deferral = Deferral::refusing_waits();
/// assert!(!allowing_waits(refuses_wait));
/// assert!(refuses_wait());
/// ```
pub fn allowing_waits<T>(work: impl FnOnce() -> T) -> T {
    let _before = Restore(&REFUSES_WAITS, REFUSES_WAITS.replace(false));
    work()
}

/// Reports whether this thread has a deferral.
///
/// # Examples
///
/// ```
/// use cumem_driver::deferral::{Deferral, is_active};
///
/// assert!(!is_active());
/// let _deferral = Deferral::begin();
/// assert!(is_active());
/// ```
pub fn is_active() -> bool {
    ACTIVE.get() > 0
}

/// Reports whether the calling thread holds a lock under which it must not wait for the closure of a kernel. If so, the
/// device is expected to refuse the wait, and the refusal is noted.
pub fn refuses_wait() -> bool {
    let refuses = REFUSES_WAITS.get();
    if refuses {
        HAS_REFUSED.set(true);
    }
    refuses
}

/// Runs `event` when the thread has no deferral: now, or at the end of the outermost one.
pub fn after_locks(event: impl FnOnce() + 'static) {
    let mut event = Some(event);
    if is_active() {
        // After the destructor of the thread's list has run, the event runs at once.
        let _ = EVENTS.try_with(|events| events.borrow_mut().extend(event.take().map(|event| Box::new(event) as _)));
    }
    event.into_iter().for_each(run_event);
}

/// Runs an event. Its panic goes to the caller, unless the thread unwinds already: a second panic would abort the process.
fn run_event(event: impl FnOnce()) {
    match thread::panicking() {
        true => catch_unwind(AssertUnwindSafe(event)).unwrap_or_else(drop_caught),
        false => event(),
    }
}

fn run_events() {
    let next = || EVENTS.try_with(|events| events.borrow_mut().pop_front()).ok().flatten();
    while let Some(event) = next() {
        run_event(event);
    }
}

/// Runs the closure of a kernel, and marks the thread meanwhile.
///
/// # Examples
///
/// ```
/// use cumem_driver::deferral::{run_kernel, within_kernel};
///
/// assert!(run_kernel(within_kernel));
/// assert!(!within_kernel());
/// ```
pub fn run_kernel<T>(closure: impl FnOnce() -> T) -> T {
    let _before = Restore(&WITHIN_KERNEL, WITHIN_KERNEL.replace(true));
    closure()
}

/// Reports whether this thread runs the closure of a kernel. Another thread may then hold a lock while it waits for the
/// closure, so the closure must not wait for that lock.
pub fn within_kernel() -> bool {
    WITHIN_KERNEL.get()
}

/// Sets a mark of the thread to its former value when it is dropped.
struct Restore(&'static thread::LocalKey<Cell<bool>>, bool);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn events_wait_for_the_outermost_deferral_and_keep_their_order() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let event = |n: u32| {
            let seen = Rc::clone(&seen);
            after_locks(move || seen.borrow_mut().push(n));
        };
        event(0);
        let outer = Deferral::begin();
        event(1);
        drop(Deferral::begin());
        event(2);
        assert_eq!(*seen.borrow(), [0]);
        drop(outer);
        assert_eq!(*seen.borrow(), [0, 1, 2]);
    }

    #[test]
    fn an_event_may_begin_a_deferral_of_its_own() {
        let ran = Rc::new(Cell::new(0));
        let inner = Rc::clone(&ran);
        let outer = Deferral::begin();
        after_locks(move || {
            let _deferral = Deferral::begin();
            after_locks(move || inner.set(inner.get() + 1));
        });
        drop(outer);
        assert_eq!((ran.get(), is_active()), (1, false));
    }

    #[test]
    fn waits_are_refused_only_within_and_the_refusal_is_seen_until_the_outermost_ends() {
        assert!(!refuses_wait());
        let outer = Deferral::begin();
        {
            let inner = Deferral::refusing_waits();
            assert!(!allowing_waits(refuses_wait) && !inner.has_refused() && !inner.is_outermost());
            assert!(refuses_wait());
        }
        assert!(outer.has_refused() && !refuses_wait());
        drop(outer);
        assert!(!Deferral::begin().has_refused());
    }
}
