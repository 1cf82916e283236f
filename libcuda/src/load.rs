use std::sync::OnceLock;

use crate::error::LoadError;
use crate::library::Library;
use crate::table;

/// Loads the CUDA driver library, once per process, and fills the table of [`SYMBOLS`].
///
/// Only the first call does this work. Every call returns the same result. A call of a driver function loads the
/// library in the same way if nothing has loaded it before.
///
/// [`SYMBOLS`]: crate::SYMBOLS
///
/// # Errors
///
/// Returns [`LoadError`] if there is no library, or if the library is not a CUDA driver.
pub fn load() -> Result<&'static Library, LoadError> {
    static LIBRARY: OnceLock<Result<Library, LoadError>> = OnceLock::new();
    // The table is filled before the result is published, so any thread that has the result can call the functions.
    let answer = LIBRARY.get_or_init(|| {
        let library = Library::open();
        table::fill(library.as_ref().ok());
        library
    });
    answer.as_ref().map_err(LoadError::clone)
}
