//! The functions that PyTorch calls: `torch.cuda.memory.CUDAPluggableAllocator(library, "cumem_torch_alloc",
//! "cumem_torch_free")`, and setters of that object for the others. All work on the default stack of the device.

mod throw;

use crate::entry::attempt;
use crate::failure::Failure;
use crate::figures::set_limit;
use crate::handles;
use crate::memory::{allocate, free};
use crate::open::default_stack;
use crate::stack::Stack;
use crate::uses::record_use;
use cumem::LayerExt;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use throw::throw;

/// The most devices of a process.
const DEVICES: usize = 64;

/// The default stacks by device: their handles, or 0.
static STACKS: [AtomicUsize; DEVICES] = [const { AtomicUsize::new(0) }; DEVICES];

/// Returns the default stack of a device, which is never closed by the library.
#[inline]
fn stack<'a>(device: c_int) -> Result<&'a Stack, Failure> {
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

/// PyTorch's `alloc_fn`: allocates from the default stack of the device.
///
/// If that fails, the function throws a C++ exception (`std::runtime_error`) with the reason, because PyTorch takes null
/// for memory. A program without the C++ library gets null, and the reason on standard error.
///
/// # Safety
///
/// `stream` is a stream of the device that exists and is not captured.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cumem_torch_alloc(size: isize, device: c_int, stream: *mut c_void) -> *mut c_void {
    let allocated = attempt(|| {
        let size = usize::try_from(size).map_err(|_| Failure::argument(format!("{size} bytes cannot be allocated")))?;
        // SAFETY: the caller promises that the stream exists.
        unsafe { allocate(stack(device)?, size, 0, stream) }
    });
    allocated.unwrap_or_else(|failure| refuse(&failure))
}

#[cold]
fn refuse(failure: &Failure) -> *mut c_void {
    throw(failure.text());
    eprintln!("cumem: {}", failure.text());
    ptr::null_mut()
}

/// PyTorch's `free_fn`: frees memory of [`cumem_torch_alloc`]. PyTorch cannot handle an error here, so the reason of a
/// failure is written to standard error.
///
/// # Safety
///
/// As for `cumem_free`, with the device of the allocation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_torch_free(address: *mut c_void, size: isize, device: c_int, stream: *mut c_void) {
    let freed = attempt(|| {
        // PyTorch does not know the size of each allocation, and then passes another.
        let _ = size;
        // SAFETY: the caller upholds the contract, which is the same.
        unsafe { free(stack(device)?, address, 0, stream) }
    });
    complain(freed);
}

/// For `set_init_fn`: opens the default stacks of the first `devices` devices.
#[unsafe(no_mangle)]
pub extern "C" fn cumem_torch_init(devices: c_int) {
    complain(attempt(|| (0..devices).try_for_each(|device| stack(device).map(drop))));
}

/// For `set_reset_fn`, which `torch.cuda.empty_cache` calls: frees the unused memory of all default stacks.
#[unsafe(no_mangle)]
pub extern "C" fn cumem_torch_empty_cache() {
    complain(attempt(|| {
        let opened = STACKS.iter().map(|handle| handle.load(Ordering::Acquire)).filter(|&handle| handle != 0);
        opened.map(ptr::without_provenance_mut).try_for_each(|handle| {
            // SAFETY: as in `stack`.
            unsafe { handles::get(handle) }?.memory.trim_stack(0)?;
            Ok(())
        })
    }));
}

/// For `set_memory_fraction_fn`: sets the limit of the default stack, whose description must have one
/// (`CUMEM_STACK='device | pool | limit(100%)'`), to a fraction of the device's memory.
#[unsafe(no_mangle)]
pub extern "C" fn cumem_torch_memory_fraction(fraction: f64, device: c_int) {
    complain(attempt(|| {
        let stack = stack(device)?;
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Failure::argument(format!("{fraction} is no fraction of the memory")));
        }
        set_limit(stack, (stack.device.attributes().total_memory as f64 * fraction) as usize)
    }));
}

/// For `set_record_stream_fn`: work on `stream` uses the memory at `address`, which PyTorch may free on another stream.
///
/// # Safety
///
/// `stream` is a stream of the memory's device that exists and is not captured.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_torch_record_stream(address: *mut c_void, stream: *mut c_void) {
    complain(attempt(|| {
        let Some(address) = NonNull::new(address) else { return Ok(()) };
        let opened = STACKS.iter().map(|handle| handle.load(Ordering::Acquire)).filter(|&handle| handle != 0);
        let mut result = Err(Failure::argument("no default stack is open"));
        // PyTorch does not pass the device. The address is in the memory of one.
        for handle in opened {
            // SAFETY: as in `stack`.
            let stack = unsafe { handles::get(ptr::without_provenance_mut(handle)) }?;
            // SAFETY: the caller promises that the stream exists, and only its own device has the address.
            result = unsafe { record_use(stack, address, stream) };
            if result.is_ok() {
                break;
            }
        }
        result
    }));
}

fn complain(result: Result<(), Failure>) {
    if let Err(failure) = result {
        eprintln!("cumem: {}", failure.text());
    }
}
