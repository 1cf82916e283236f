//! [`CumemStack`]: a handle of a stack, which is checked at each use.

use crate::failure::Failure;
use crate::stack::Stack;
use crate::status::CumemStatus;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// A stack. Pointers to this type are numbers that the library checks at each use, and point to nothing.
#[derive(Debug)]
pub struct CumemStack {
    _private: (),
}

/// The logarithm of the number of stacks that may be open at once.
const BITS: u32 = 12;
const INDEX: usize = (1 << BITS) - 1;

/// The stack of a number.
struct Slot {
    /// How often the slot was used. Odd while a stack is open.
    generation: AtomicUsize,
    stack: AtomicPtr<Stack>,
}

static SLOTS: [Slot; 1 << BITS] =
    [const { Slot { generation: AtomicUsize::new(0), stack: AtomicPtr::new(ptr::null_mut()) } }; 1 << BITS];

/// Opens a handle to a stack.
pub(crate) fn insert(stack: Stack) -> Result<*mut CumemStack, Failure> {
    let stack = Box::into_raw(Box::new(stack));
    for (index, slot) in SLOTS.iter().enumerate() {
        let empty = slot.stack.compare_exchange(ptr::null_mut(), stack, Ordering::AcqRel, Ordering::Relaxed);
        if empty.is_ok() {
            let generation = slot.generation.fetch_add(1, Ordering::AcqRel) + 1;
            return Ok(ptr::without_provenance_mut(generation << BITS | index));
        }
    }
    // SAFETY: the pointer comes from `into_raw` above, and no slot has it.
    drop(unsafe { Box::from_raw(stack) });
    Err(Failure::new(CumemStatus::Busy, format!("{} stacks are open, and no more can be", SLOTS.len())))
}

/// Returns the stack of a handle.
///
/// # Safety
///
/// The caller must ensure that no thread closes the stack while the result exists.
#[inline]
pub(crate) unsafe fn get<'a>(handle: *mut CumemStack) -> Result<&'a Stack, Failure> {
    let slot = &SLOTS[handle.addr() & INDEX];
    if slot.generation.load(Ordering::Acquire) != handle.addr() >> BITS || handle.addr() >> BITS & 1 == 0 {
        return Err(invalid(handle));
    }
    // SAFETY: the slot has a stack while its generation is odd, and by the caller's promise it stays.
    Ok(unsafe { &*slot.stack.load(Ordering::Acquire) })
}

/// Closes a handle, and returns its stack.
///
/// # Safety
///
/// The caller must ensure that no other function uses the stack.
pub(crate) unsafe fn remove(handle: *mut CumemStack) -> Result<Box<Stack>, Failure> {
    let (slot, generation) = (&SLOTS[handle.addr() & INDEX], handle.addr() >> BITS);
    let closed = slot.generation.compare_exchange(generation, generation + 1, Ordering::AcqRel, Ordering::Relaxed);
    if generation & 1 == 0 || closed.is_err() {
        return Err(invalid(handle));
    }
    let stack = slot.stack.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: the pointer comes from `into_raw` in `insert`, and only this call of `remove` got the generation.
    Ok(unsafe { Box::from_raw(stack) })
}

#[cold]
fn invalid(handle: *mut CumemStack) -> Failure {
    let text = match handle.is_null() {
        true => "the stack is null".into(),
        false => format!("{handle:p} is no open stack: it was closed, or never opened"),
    };
    Failure::new(CumemStatus::InvalidStack, text)
}
