//! On a machine without a driver, every call returns an error.

mod common;

use cumem_libcuda::{LoadError, load};
use cust::sys::{self, CUresult};

const NOWHERE: &str = "/nonexistent/libcuda.so.1";

#[test]
fn load_says_what_is_missing() {
    if !common::in_own_process("load_says_what_is_missing", NOWHERE) {
        return;
    }
    let error = load().unwrap_err();
    assert!(matches!(&error, LoadError::NotFound { library, .. } if library == NOWHERE));
    let text = error.to_string();
    assert!(text.contains(NOWHERE), "{text}");
    assert!(text.contains("cannot open shared object file"), "{text}");
    assert!(text.contains("simulated device"), "{text}");
    assert_eq!(load().unwrap_err(), error);
}

#[test]
fn calls_return_an_error() {
    if !common::in_own_process("calls_return_an_error", NOWHERE) {
        return;
    }
    for _ in 0..2 {
        // SAFETY: the call only returns an error code.
        let code = unsafe { sys::cuInit(0) };
        assert_eq!(code, CUresult::CUDA_ERROR_SHARED_OBJECT_INIT_FAILED);
        assert_eq!(cust::init(cust::CudaFlags::empty()), Err(cust::error::CudaError::SharedObjectInitFailed));
    }
}
