//! [`Extension`]: a place at a driver for the library above it.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A place where the library above a driver keeps what it knows about the driver's machine. The value lives as long as
/// the driver, so the library needs no table of its own from machines to values.
#[derive(Default)]
pub struct Extension(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Extension {
    /// Creates an empty place.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Returns the value, which `make` creates at the first call. `make` runs once, also with several threads.
    ///
    /// # Panics
    ///
    /// Panics if an earlier call stored a value of another type.
    pub fn get_or_init<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let value = Arc::clone(self.0.get_or_init(|| Arc::new(make())));
        value.downcast().expect("one library keeps one value at a driver")
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Extension(set)" } else { "Extension(empty)" })
    }
}
