//! Captures with private pools, called as C calls them.

mod common;

use common::{Opened, open};
use cumem_c::*;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

type Call = unsafe extern "C" fn(*mut CumemStack, u64, u64, *mut CumemError) -> CumemStatus;

fn begin(stack: &Opened, id: u64, streams: CumemStreamFilter, context: *mut c_void) -> CumemStatus {
    // SAFETY: the filters of these tests may be called at any time.
    unsafe { cumem_capture_begin(stack.0, 0, id, streams, context, null_mut()) }
}

fn call(function: Call, stack: &Opened, id: u64) -> CumemStatus {
    // SAFETY: no thread closes the stack.
    unsafe { function(stack.0, 0, id, null_mut()) }
}

unsafe extern "C" fn is_context(stream: *mut c_void, context: *mut c_void) -> bool {
    stream == context
}

#[test]
fn memory_of_a_capture_stays_in_its_pool_until_it_is_released() {
    let stack = open(c"device | pool | graph_pools | statistics");
    let [captured, other] = [stack.stream(), stack.stream()];
    assert_eq!(begin(&stack, 1, Some(is_context), captured), CumemStatus::Success);
    assert_eq!(begin(&stack, 1, None, null_mut()), CumemStatus::Busy);
    let inside = stack.allocate(1 << 20, captured).unwrap();
    let outside = stack.allocate(1 << 20, other).unwrap();
    assert_eq!(stack.free(inside, 1 << 20, captured), Ok(()));
    assert_eq!(stack.allocate(1 << 20, captured), Ok(inside), "the capture uses its memory again");
    assert_eq!(stack.free(inside, 0, captured), Ok(()));
    assert_eq!(call(cumem_capture_end, &stack, 1), CumemStatus::Success);
    assert_eq!(call(cumem_capture_end, &stack, 1), CumemStatus::InvalidArgument);

    let later: Vec<_> = (0..32).map(|_| stack.allocate(1 << 20, captured).unwrap()).collect();
    assert!(!later.contains(&inside));
    assert_eq!(call(cumem_capture_release, &stack, 1), CumemStatus::Success);
    assert_eq!(call(cumem_capture_release, &stack, 1), CumemStatus::InvalidArgument);
    later.into_iter().for_each(|memory| assert_eq!(stack.free(memory, 0, captured), Ok(())));
    assert_eq!(stack.free(outside, 0, other), Ok(()));
    assert_eq!(stack.counters().live_blocks, 0);
}

#[test]
fn a_stack_without_the_layer_says_so() {
    let stack = open(c"device | pool");
    let mut error = CumemError::NONE;
    // SAFETY: there is no filter.
    let status = unsafe { cumem_capture_begin(stack.0, 0, 1, None, null_mut(), &raw mut error) };
    assert_eq!(status, CumemStatus::InvalidArgument);
    let text = error.text().to_owned();
    assert!(text.contains("has no layer `graph_pools`"), "{text}");
    // SAFETY: null is no stack.
    let status = unsafe { cumem_capture_end(null_mut(), 0, 1, null_mut()) };
    assert_eq!(status, CumemStatus::InvalidStack);
}

#[test]
fn the_header_of_the_default_stack_names_the_layer() {
    let text: &CStr = c"virtual | pool | graph_pools(detect)";
    let stack = open(text);
    let memory = stack.allocate(1000, null_mut()).unwrap();
    assert_eq!(stack.free(memory, 1000, null_mut()), Ok(()));
}
