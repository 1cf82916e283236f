//! A forked child gets an error from every function.
#![cfg(unix)]

mod common;

use common::open;
use cumem_c::*;
use std::ffi::c_int;
use std::ptr::null_mut;

#[test]
fn a_forked_child_gets_an_error() {
    let stack = open(c"device | pool");
    let memory = stack.allocate(1000, null_mut()).unwrap();
    // SAFETY: the child only calls functions that must return at once, and `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let right = in_child(&stack, memory);
            // SAFETY: ends the child without running what the parent registered.
            unsafe { libc::_exit(if right { 0 } else { 1 }) }
        }
        child => {
            let mut status: c_int = -1;
            // SAFETY: the child is this process's.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
        }
    }
    assert_eq!(stack.free(memory, 1000, null_mut()), Ok(()));
}

fn in_child(stack: &common::Opened, memory: *mut std::ffi::c_void) -> bool {
    let refused =
        [stack.allocate(1000, null_mut()).map(drop), stack.free(memory, 1000, null_mut()), stack.trim(0).map(drop)];
    // SAFETY: no other thread of the child uses the stack.
    let closed = unsafe { cumem_stack_close(stack.0, null_mut()) };
    refused.iter().all(|result| matches!(result, Err(error) if error.status == CumemStatus::Forked))
        && closed == CumemStatus::Forked
}
