//! For a Rust crate in the same shared object, such as the Python package: the same stacks as those of the C functions,
//! with their Rust types.

use crate::entry::is_forked;
use crate::failure::Failure;
use crate::handles::{self, CumemStack};
use crate::open::{gpu, open, simulated};
use crate::stack::Stack;
use crate::status::CumemError;
use cumem::Device;
use cumem_adaptors::{AnyStack, ByAddress, SpecError, StackSpec};
use std::ffi::c_int;

/// Opens a GPU, or creates a simulated device, as `cumem_stack_open` does.
///
/// # Errors
///
/// Returns a description of the failure.
#[doc(hidden)]
pub fn open_device(ordinal: c_int, profile: Option<&str>) -> Result<Device, Box<CumemError>> {
    profile.map_or_else(|| gpu(ordinal), |profile| simulated(profile, ordinal)).map_err(describe)
}

/// Builds a stack that counts, as `cumem_stack_open` does, and opens a handle to it.
///
/// # Errors
///
/// Returns the error of the description.
#[doc(hidden)]
pub fn open_stack(spec: &StackSpec, device: &Device) -> Result<Result<*mut CumemStack, Box<CumemError>>, SpecError> {
    Ok(open(Stack::build(spec, device)?).map_err(describe))
}

/// Returns the memory and the device of a stack.
///
/// # Errors
///
/// Returns a description of the failure if the handle is not open.
///
/// # Safety
///
/// The caller must ensure that no thread closes the stack while the result exists.
#[doc(hidden)]
pub unsafe fn parts_of<'a>(handle: *mut CumemStack) -> Result<(&'a ByAddress<AnyStack>, &'a Device), Box<CumemError>> {
    // SAFETY: the caller upholds the contract.
    let stack = unsafe { handles::get(handle) }.map_err(describe)?;
    Ok((&stack.memory, &stack.device))
}

/// Returns whether this process is a forked child of the process that opened the first stack.
#[doc(hidden)]
#[inline]
pub fn is_forked_child() -> bool {
    is_forked()
}

#[cold]
fn describe(failure: Failure) -> Box<CumemError> {
    let mut error = Box::new(CumemError::NONE);
    failure.report(Some(&mut error));
    error
}
