//! [`Extension`]: a value that the library above stores with a driver.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A value of any type that the library above stores with a driver. The value lives as long as the driver, so the
/// library needs no table from drivers to values.
///
/// # Examples
///
/// ```
/// use cumem_driver::Extension;
///
/// let extension = Extension::new();
/// let first = extension.get_or_init(|| vec![1, 2, 3]);
/// let second = extension.get_or_init(Vec::<i32>::new); // the value exists, so the closure does not run
/// assert_eq!((&*second, format!("{extension:?}")), (&vec![1, 2, 3], "Extension(set)".to_owned()));
/// # assert!(std::sync::Arc::ptr_eq(&first, &second));
/// ```
#[derive(Default)]
pub struct Extension(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Extension {
    /// Creates an extension without a value.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Returns the value. The first call creates it with `make`. `make` runs once, even if several threads call.
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
