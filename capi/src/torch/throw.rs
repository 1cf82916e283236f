//! [`throw`] throws a C++ exception through the frames of the caller.

use std::ffi::{CString, c_char};
use std::mem;

type ThrowRuntimeError = unsafe extern "C-unwind" fn(*const c_char);

/// Throws a `std::runtime_error` with a text. Returns if the process has not loaded the C++ library.
pub(super) fn throw(text: &str) {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    if let Some(throw) = runtime_error() {
        // SAFETY: the function copies the text. It unwinds, which every frame up to the C++ caller permits.
        unsafe { throw(text.as_ptr()) };
    }
}

/// Returns libstdc++'s `std::__throw_runtime_error(char const*)`, if the library is loaded. The library may be loaded
/// without being visible to other libraries, as in Python.
fn runtime_error() -> Option<ThrowRuntimeError> {
    // SAFETY: the flag only looks for a library that is loaded already.
    let library = unsafe { libc::dlopen(c"libstdc++.so.6".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if library.is_null() {
        return None;
    }
    // SAFETY: the handle is valid, and stays open: the reference that `dlopen` added is kept.
    let symbol = unsafe { libc::dlsym(library, c"_ZSt21__throw_runtime_errorPKc".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: the symbol is the function of that name and type in the C++ ABI.
    Some(unsafe { mem::transmute::<*mut libc::c_void, ThrowRuntimeError>(symbol) })
}
