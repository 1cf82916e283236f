//! On a machine without a driver, every call returns an error.

use cumem_libcuda::{LoadError, load};
use cumem_test_support::own_process;
use cust::sys::{self, CUresult};

const NOWHERE: &str = "/nonexistent/libcuda.so.1";

own_process!(with &[(cumem_libcuda::ENV, super::NOWHERE.into())]; load_names_the_missing_library_or_symbol, calls_return_an_error);

fn load_names_the_missing_library_or_symbol() {
    let error = load().unwrap_err();
    assert!(matches!(&error, LoadError::NotFound { library, .. } if library.as_os_str() == NOWHERE));
    let text = error.to_string();
    assert!(text.contains(NOWHERE), "{text}");
    assert!(text.contains("cannot open shared object file"), "{text}");
    assert_eq!(load().unwrap_err(), error);
}

fn calls_return_an_error() {
    for _ in 0..2 {
        // SAFETY: without a driver the function only returns an error code.
        let code = unsafe { sys::cuInit(0) };
        assert_eq!(code, CUresult::CUDA_ERROR_SHARED_OBJECT_INIT_FAILED);
        assert_eq!(cust::init(cust::CudaFlags::empty()), Err(cust::error::CudaError::SharedObjectInitFailed));
    }
}
