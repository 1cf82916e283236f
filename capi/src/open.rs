//! Stacks are opened, described and closed.

use crate::entry::{entry, watch_forks};
use crate::failure::Failure;
use crate::handles::{self, CumemStack};
use crate::out::{place, text};
use crate::stack::{Stack, forget_stream};
use crate::status::{CumemError, CumemStatus};
use cumem::sim::Profile;
use cumem::{Device, LayerExt};
use cumem_adaptors::{AnyStack, Size, StackSpec};
use std::collections::HashMap;
use std::env;
use std::ffi::{CString, c_char, c_int, c_uint};
use std::sync::{Mutex, PoisonError};

/// Opens a stack that `spec` describes, for example `managed | pool | limit(80%)`.
///
/// `profile` is null for a GPU, which `device` numbers from 0. Otherwise `profile` names a simulated device, for example
/// `a100` or `gtx1080ti:4GiB`, and `device` is 0.
///
/// `stack` receives the stack, or null if the function fails.
///
/// # Safety
///
/// The texts must be null or end with 0. `stack` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stack_open(
    spec: *const c_char,
    device: c_int,
    profile: *const c_char,
    stack: *mut *mut CumemStack,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(stack, "stack") }?;
        *place = std::ptr::null_mut();
        // SAFETY: as above.
        let spec = StackSpec::parse(unsafe { text(spec, "spec") }?)?;
        let device = match profile.is_null() {
            true => gpu(device)?,
            // SAFETY: as above.
            false => simulated(unsafe { text(profile, "profile") }?, device)?,
        };
        *place = open(Stack::build(&spec, &device)?)?;
        Ok(())
    })
}

/// Returns the default stack of a device, and opens it at the first call. The caller does not close it.
///
/// The environment variable `CUMEM_STACK` describes the stack. Without it, the stack is
/// `virtual | pool | graph_pools(detect)`, with `device` in place of `virtual` on a device without virtual memory
/// management. If `CUMEM_PROFILE` is set, the device is simulated.
///
/// # Safety
///
/// `stack` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stack_default(
    device: c_int,
    stack: *mut *mut CumemStack,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(stack, "stack") }?;
        *place = std::ptr::null_mut();
        *place = default_stack(device)?;
        Ok(())
    })
}

/// Closes a stack, and frees all its memory. A stack with live blocks stays open, and the status is
/// `CUMEM_STATUS_BUSY`.
///
/// No other thread may use the stack meanwhile. A later use of the stack is an error, not a crash.
///
/// # Safety
///
/// No other thread uses the stack. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stack_close(stack: *mut CumemStack, error: *mut CumemError) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no other thread closes the stack.
        let live = unsafe { handles::get(stack) }?.memory.released();
        if live > 0 {
            let text = format!("the stack has {}, which must be freed first", cumem::error::Plural(live, "live block"));
            return Err(Failure::new(CumemStatus::Busy, text));
        }
        // SAFETY: the caller promises that no other thread uses the stack.
        drop(unsafe { handles::remove(stack) }?);
        forget_stream();
        Ok(())
    })
}

/// Returns the layers of a stack as text, outermost first. The caller frees the text with `cumem_text_free`.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `text` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stack_text(
    stack: *mut CumemStack,
    text: *mut *mut c_char,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(text, "text") }?;
        *place = std::ptr::null_mut();
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        *place = into_text(stack.memory.upstream().to_string());
        Ok(())
    })
}

/// What can access the memory of a stack: a bit each.
/// cbindgen:rename-all=QualifiedScreamingSnakeCase
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub enum CumemAccess {
    /// The host.
    Host = 1,
    /// The stack's device.
    Device = 2,
}

/// Returns what can access the memory of a stack, as a sum of `cumem_access`.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `access` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_stack_access(
    stack: *mut CumemStack,
    access: *mut c_uint,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(access, "access") }?;
        let (host, device) = (CumemAccess::Host as c_uint, CumemAccess::Device as c_uint);
        // SAFETY: the caller promises that no thread closes the stack.
        *place = match unsafe { handles::get(stack) }?.memory.upstream() {
            AnyStack::OverDevice(_) | AnyStack::OverEither(_) => device,
            AnyStack::OverManaged(_) | AnyStack::OverPinned(_) => host | device,
            AnyStack::OverHost(_) => host,
        };
        Ok(())
    })
}

/// Opens a stack that Rust code has built, for tests.
#[doc(hidden)]
pub fn open_any(stack: AnyStack) -> *mut CumemStack {
    let device = stack.device().clone();
    open(Stack::new(stack, &device)).expect("fewer stacks are open than may be")
}

/// Returns a text for the caller, who frees it with `cumem_text_free`. A 0 in the text ends it.
pub(crate) fn into_text(text: String) -> *mut c_char {
    let mut bytes = text.into_bytes();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default().into_raw()
}

/// Returns the default stack of a device.
pub(crate) fn default_stack(device: c_int) -> Result<*mut CumemStack, Failure> {
    static DEFAULTS: Mutex<Option<HashMap<c_int, usize>>> = Mutex::new(None);
    let mut defaults = DEFAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let defaults = defaults.get_or_insert_default();
    if let Some(&handle) = defaults.get(&device) {
        return Ok(std::ptr::without_provenance_mut(handle));
    }
    let handle = open(build_default(device)?)?;
    defaults.insert(device, handle.addr());
    Ok(handle)
}

fn build_default(device: c_int) -> Result<Stack, Failure> {
    let device = match env::var("CUMEM_PROFILE") {
        Ok(profile) => simulated(&profile, 0)?,
        Err(_) => gpu(device)?,
    };
    if let Ok(text) = env::var("CUMEM_STACK") {
        return Ok(Stack::build(&StackSpec::parse(&text)?, &device)?);
    }
    let [growing, plain] =
        ["virtual | pool | graph_pools(detect)", "device | pool | graph_pools(detect)"].map(StackSpec::parse);
    Stack::build(&growing?, &device).or_else(|_| Ok(Stack::build(&plain?, &device)?))
}

pub(crate) fn open(stack: Stack) -> Result<*mut CumemStack, Failure> {
    watch_forks();
    handles::insert(stack)
}

pub(crate) fn gpu(device: c_int) -> Result<Device, Failure> {
    let ordinal = u32::try_from(device).map_err(|_| Failure::argument(format!("{device} is no number of a device")))?;
    Ok(Device::open(ordinal)?)
}

/// Creates a simulated device from a name, and a size of its memory if one follows: `gtx1080ti:4GiB`.
pub(crate) fn simulated(text: &str, device: c_int) -> Result<Device, Failure> {
    if device != 0 {
        return Err(Failure::argument(format!("a simulated device has the number 0, not {device}")));
    }
    let (name, size) = text.split_once(':').map_or((text, None), |(name, size)| (name, Some(size)));
    let Some(mut profile) = Profile::named(name) else {
        let names = Profile::NAMES.join(", ");
        return Err(Failure::argument(format!("there is no profile `{name}`; there are {names}")));
    };
    if let Some(size) = size {
        profile = match size.parse() {
            Ok(Size::Bytes(bytes)) => profile.with_capacity(bytes as u64),
            _ => return Err(Failure::argument(format!("`{size}` is no size of a device's memory; write `4GiB`"))),
        };
    }
    Device::simulated(profile).map_err(|error| Failure::argument(error.to_string()))
}
