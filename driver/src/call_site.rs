//! [`CallSite`]: the line of the program that made the current call, for the reports of the race detector.

use std::cell::Cell;
use std::panic::Location;

thread_local! {
    static CURRENT: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// A guard: while it exists, [`current`] returns the line that it recorded on this thread.
///
/// # Examples
///
/// ```
/// use cumem_driver::call_site::{CallSite, current};
///
/// #[track_caller]
/// fn launch() -> u32 {
///     let _site = CallSite::here();
///     current().expect("a guard exists").line()
/// }
///
/// assert_eq!(launch(), line!());
/// assert!(current().is_none(), "the guard of the call is gone");
/// ```
#[derive(Debug)]
pub struct CallSite;

impl CallSite {
    /// Records the caller of the `#[track_caller]` function that calls this one. Returns `None` if a guard exists on
    /// this thread already: the outermost call is the program's own.
    #[track_caller]
    pub fn here() -> Option<Self> {
        let caller = Location::caller();
        CURRENT.with(|current| current.get().is_none().then(|| current.set(Some(caller)))).map(|()| Self)
    }
}

impl Drop for CallSite {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(None));
    }
}

/// Returns the line that the current call of this thread comes from, or `None` if the call did not record it.
pub fn current() -> Option<&'static Location<'static>> {
    CURRENT.with(Cell::get)
}
