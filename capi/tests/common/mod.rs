//! A stack that is used through the exported functions.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::result_large_err, reason = "the error is the caller's in C")]

use cumem_c::*;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

/// An open stack, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) *mut CumemStack);

// SAFETY: all functions may be called from any thread.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

/// Opens a stack on a simulated device.
pub(crate) fn open(spec: &CStr) -> Opened {
    let (mut stack, mut error) = (null_mut(), CumemError::NONE);
    // SAFETY: both texts end with 0, and the pointers are valid.
    let status = unsafe { cumem_stack_open(spec.as_ptr(), 0, c"h100-pcie5".as_ptr(), &raw mut stack, &raw mut error) };
    assert_eq!(status, CumemStatus::Success, "{error:?}");
    Opened(stack)
}

/// Returns no place for an error.
pub(crate) fn error() -> *mut CumemError {
    null_mut()
}

/// Returns the text that a function writes, and frees it.
pub(crate) fn text_of(write: impl FnOnce(*mut *mut c_char) -> CumemStatus) -> String {
    let mut text = null_mut();
    assert_eq!(write(&raw mut text), CumemStatus::Success);
    // SAFETY: the function wrote a text that ends with 0.
    let copy = unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned();
    // SAFETY: the function returned the text.
    unsafe { cumem_text_free(text) };
    copy
}

impl Opened {
    pub(crate) fn stream(&self) -> *mut c_void {
        let mut stream = null_mut();
        // SAFETY: the pointers are valid.
        assert_eq!(unsafe { cumem_stream_create(self.0, &raw mut stream, null_mut()) }, CumemStatus::Success);
        stream
    }

    pub(crate) fn allocate(&self, size: usize, stream: *mut c_void) -> Result<*mut c_void, CumemError> {
        self.allocate_aligned(size, 0, stream)
    }

    pub(crate) fn allocate_aligned(
        &self,
        size: usize,
        align: usize,
        stream: *mut c_void,
    ) -> Result<*mut c_void, CumemError> {
        let (mut memory, mut error) = (null_mut(), CumemError::NONE);
        // SAFETY: the stream exists, and the pointers are valid.
        let status = unsafe { cumem_allocate(self.0, size, align, stream, &raw mut memory, &raw mut error) };
        assert_eq!(status, error.status);
        if status == CumemStatus::Success { Ok(memory) } else { Err(error) }
    }

    pub(crate) fn free(&self, memory: *mut c_void, size: usize, stream: *mut c_void) -> Result<(), CumemError> {
        let mut error = CumemError::NONE;
        // SAFETY: the stream exists, and no work uses the memory.
        let status = unsafe { cumem_free(self.0, memory, size, stream, &raw mut error) };
        assert_eq!(status, error.status);
        if status == CumemStatus::Success { Ok(()) } else { Err(error) }
    }

    pub(crate) fn counters(&self) -> CumemCounters {
        let mut counters = CumemCounters::default();
        // SAFETY: the pointers are valid.
        assert_eq!(unsafe { cumem_get_counters(self.0, &raw mut counters, null_mut()) }, CumemStatus::Success);
        counters
    }

    pub(crate) fn trim(&self, keep: usize) -> Result<usize, CumemError> {
        let (mut freed, mut error) = (0, CumemError::NONE);
        // SAFETY: the pointers are valid.
        let status = unsafe { cumem_trim(self.0, keep, &raw mut freed, &raw mut error) };
        if status == CumemStatus::Success { Ok(freed) } else { Err(error) }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the test has ended, so nothing uses the stack.
        let _ = unsafe { cumem_stack_close(self.0, null_mut()) };
    }
}
