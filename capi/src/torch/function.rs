//! [`Function`]: a `std::function<bool(cudaStream_t)>` of the GNU C++ library.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

type Data = [usize; 2];
type Manager = unsafe extern "C-unwind" fn(to: *mut Data, from: *const Data, operation: c_int) -> bool;
type Invoker = unsafe extern "C-unwind" fn(data: *const Data, stream: *mut *mut c_void) -> bool;

const COPY: c_int = 2;
const DESTROY: c_int = 3;

/// A function object of C++. Its layout has been the same since GCC 4.1 (`bits/std_function.h`).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Function {
    data: MaybeUninit<Data>,
    manager: Option<Manager>,
    invoker: Option<Invoker>,
}

// SAFETY: PyTorch calls the filters of its captures from any thread.
unsafe impl Send for Function {}
// SAFETY: as for `Send`.
unsafe impl Sync for Function {}

impl Function {
    /// Copies a function of C++.
    ///
    /// # Safety
    ///
    /// `function` points to a `std::function<bool(cudaStream_t)>` of the GNU C++ library.
    pub(super) unsafe fn copy(function: *const Self) -> Self {
        // SAFETY: the caller ensures that the function exists.
        let from = unsafe { &*function };
        let mut copied = Self { data: MaybeUninit::zeroed(), manager: None, invoker: None };
        if let Some(manager) = from.manager {
            // SAFETY: the manager copies the data of its own function.
            unsafe { manager(copied.data.as_mut_ptr(), from.data.as_ptr(), COPY) };
            // Only now is there something to destroy.
            (copied.manager, copied.invoker) = (from.manager, from.invoker);
        }
        copied
    }

    /// Calls the function with the handle of a stream. An empty function returns false.
    pub(super) fn call(&self, mut stream: *mut c_void) -> bool {
        // SAFETY: the data are those of this function. It takes a reference to a stream, and keeps none.
        self.invoker.is_some_and(|invoker| unsafe { invoker(self.data.as_ptr(), &raw mut stream) })
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if let Some(manager) = self.manager {
            // SAFETY: the data are those of this function, and are not used afterwards.
            unsafe { manager(self.data.as_mut_ptr(), self.data.as_ptr(), DESTROY) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

    static COPIES: AtomicIsize = AtomicIsize::new(0);

    unsafe extern "C-unwind" fn manage(to: *mut Data, from: *const Data, operation: c_int) -> bool {
        match operation {
            COPY => {
                COPIES.fetch_add(1, Relaxed);
                // SAFETY: the test passes valid data, which do not overlap.
                unsafe { std::ptr::copy_nonoverlapping(from, to, 1) };
            }
            _ => _ = COPIES.fetch_sub(1, Relaxed),
        }
        false
    }

    unsafe extern "C-unwind" fn is_odd(data: *const Data, stream: *mut *mut c_void) -> bool {
        // SAFETY: the test passes valid data.
        let (stream, data) = (unsafe { stream.read() }, unsafe { data.read() });
        (stream.addr() + data[0]) % 2 == 1
    }

    #[test]
    fn a_function_is_copied_called_and_destroyed() {
        let function = Function { data: MaybeUninit::new([2, 0]), manager: Some(manage), invoker: Some(is_odd) };
        // SAFETY: the function is one of this layout.
        let copy = unsafe { Function::copy(&raw const function) };
        assert_eq!(COPIES.load(Relaxed), 1);
        assert_eq!([3, 4].map(|stream| copy.call(std::ptr::without_provenance_mut(stream))), [true, false]);
        drop(copy);
        assert_eq!(COPIES.load(Relaxed), 0);
        std::mem::forget(function);
        let empty = Function { data: MaybeUninit::zeroed(), manager: None, invoker: None };
        // SAFETY: as above.
        assert!(!unsafe { Function::copy(&raw const empty) }.call(std::ptr::null_mut()));
    }
}
