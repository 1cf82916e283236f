//! Panics of user code: their message, and values whose drop may panic.
#![forbid(unsafe_code)]

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns the message of a caught panic, or `None` if the payload is no text.
///
/// # Examples
///
/// ```
/// use cumem_driver::panics::panic_message;
/// use std::panic::{catch_unwind, panic_any};
///
/// let payload = catch_unwind(|| panic!("block {}", 7)).unwrap_err();
/// assert_eq!(panic_message(&*payload), Some("block 7"));
/// let payload = catch_unwind(|| panic_any(7)).unwrap_err();
/// assert_eq!(panic_message(&*payload), None);
/// ```
pub fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Drops a value whose drop may panic, for example the payload of a panic. If the drop panics, the payload of that panic
/// is leaked, because its drop could panic as well.
///
/// # Examples
///
/// ```
/// use cumem_driver::panics::drop_caught;
///
/// struct Panics;
/// impl Drop for Panics {
///     fn drop(&mut self) {
///         panic!("in a drop")
///     }
/// }
/// drop_caught(Panics); // does not panic
/// ```
pub fn drop_caught<T>(value: T) {
    catch_unwind(AssertUnwindSafe(|| drop(value))).unwrap_or_else(mem::forget);
}
