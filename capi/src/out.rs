//! Pointers of the caller: results are written through them, texts are read.

use crate::failure::Failure;
use std::ffi::{CStr, c_char};

/// Returns the place of a result.
///
/// # Safety
///
/// The caller must ensure that `place` is null or points to a `T` that nothing else uses meanwhile.
#[inline]
pub(crate) unsafe fn place<'a, T>(place: *mut T, what: &'static str) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller upholds the contract.
    unsafe { place.as_mut() }.ok_or_else(|| null(what))
}

/// Returns a text.
///
/// # Safety
///
/// The caller must ensure that `text` is null or points to a text that ends with 0 and does not change meanwhile.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &'static str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: the caller upholds the contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::argument(format!("`{what}` is not UTF-8")))
}

#[cold]
fn null(what: &'static str) -> Failure {
    Failure::argument(format!("`{what}` is null"))
}
