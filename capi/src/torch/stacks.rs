//! The default stacks, on which PyTorch's functions work, and the report of an error that PyTorch cannot take.

use crate::failure::Failure;
use crate::handles;
use crate::open::default_stack;
use crate::stack::Stack;
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most devices of a process.
const DEVICES: usize = 64;

/// The default stacks by device: their handles, or 0.
pub(super) static STACKS: [AtomicUsize; DEVICES] = [const { AtomicUsize::new(0) }; DEVICES];

/// Returns the default stack of a device, which is never closed by the library.
#[inline]
pub(super) fn stack<'a>(device: c_int) -> Result<&'a Stack, Failure> {
    let known = usize::try_from(device).ok().and_then(|device| STACKS.get(device));
    let handle = match known.map(|handle| handle.load(Ordering::Acquire)) {
        Some(handle) if handle != 0 => ptr::without_provenance_mut(handle),
        _ => opened(device)?,
    };
    // SAFETY: a program that closes a default stack promises that no thread uses it.
    unsafe { handles::get(handle) }
}

#[cold]
fn opened(device: c_int) -> Result<*mut handles::CumemStack, Failure> {
    let handle = default_stack(device)?;
    if let Some(known) = usize::try_from(device).ok().and_then(|device| STACKS.get(device)) {
        known.store(handle.addr(), Ordering::Release);
    }
    Ok(handle)
}

pub(super) fn complain(result: Result<(), Failure>) {
    if let Err(failure) = result {
        eprintln!("cumem: {}", failure.text());
    }
}
