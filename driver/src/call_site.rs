//! Where in the program a call was made, for the simulator's reports.

use std::cell::Cell;
use std::panic::Location;

thread_local! {
    static HERE: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// The calling thread is within a call from a known place, until this goes.
#[derive(Debug)]
pub struct CallSite;

impl CallSite {
    /// Notes the caller of the function that has `#[track_caller]`; within another noted call, that one stands.
    #[track_caller]
    pub fn here() -> Option<Self> {
        let caller = Location::caller();
        HERE.with(|here| here.get().is_none().then(|| here.set(Some(caller)))).map(|()| Self)
    }
}

impl Drop for CallSite {
    fn drop(&mut self) {
        HERE.with(|here| here.set(None));
    }
}

/// The place that the calling thread's call comes from, where that was noted.
pub fn place() -> Option<&'static Location<'static>> {
    HERE.with(Cell::get)
}
