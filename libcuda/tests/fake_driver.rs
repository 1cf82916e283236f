//! Tests against a fake driver that has only four functions.

mod common;

use std::ffi::c_void;
use std::ptr;

use cumem_libcuda::{DriverVersion, LoadError, SYMBOLS, load};
use cust::sys::{self, CUresult};

/// Returns true in the process that has loaded the fake driver.
fn with_fake(test: &str, flags: &[&str]) -> bool {
    common::fake_driver(test, flags).is_some_and(|library| common::in_own_process(test, library))
}

#[test]
fn symbols_are_looked_up() {
    if !with_fake("symbols_are_looked_up", &[]) {
        return;
    }
    let driver = load().unwrap();
    let version = DriverVersion { major: 13, minor: 0 };
    assert_eq!(driver.driver_version(), version);
    assert_eq!(driver.driver_version().to_string(), "13.0");
    assert!(driver.path().ends_with("symbols_are_looked_up.so"));
    assert_eq!(driver.require("cuLaunchKernel"), Ok(()));

    for name in ["cuMemAlloc_v2", "cuMemPrefetchBatchAsync", "with\0nul", ""] {
        let missing = driver.symbol(name).unwrap_err();
        assert_eq!(missing.symbol, name);
        assert_eq!(missing.driver_version, version);
    }
    assert_eq!(
        driver.require("cuMemAlloc_v2").unwrap_err().to_string(),
        "the installed CUDA driver (version 13.0) lacks cuMemAlloc_v2"
    );
}

#[test]
fn missing_symbol_returns_not_found() {
    if !with_fake("missing_symbol_returns_not_found", &[]) {
        return;
    }
    assert!(SYMBOLS.contains(&"cuMemAlloc_v2"));
    for _ in 0..2 {
        let mut address = 0;
        // SAFETY: `address` is writable.
        let code = unsafe { sys::cuMemAlloc_v2(&raw mut address, 16) };
        assert_eq!((code, address), (CUresult::CUDA_ERROR_NOT_FOUND, 0));
    }
}

/// The first call loads the driver. The second call jumps directly to the driver's function.
#[test]
fn stack_arguments_arrive() {
    if !with_fake("stack_arguments_arrive", &[]) {
        return;
    }
    for _ in 0..2 {
        let mut got = [0_usize; 10];
        // SAFETY: the fake writes ten words to the address in the last argument but one, and `got` has room for ten.
        let code = unsafe {
            sys::cuLaunchKernel(
                ptr::without_provenance_mut(101),
                102,
                103,
                104,
                105,
                106,
                107,
                108,
                ptr::without_provenance_mut(109),
                (&raw mut got).cast::<*mut c_void>(),
                ptr::without_provenance_mut(110),
            )
        };
        assert_eq!(code, CUresult::CUDA_SUCCESS);
        assert_eq!(got, [101, 102, 103, 104, 105, 106, 107, 108, 109, 110]);
    }
}

type Wide = unsafe extern "C" fn(
    *mut f64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
) -> u32;

/// Like `stack_arguments_arrive`, but every argument register is in use.
#[test]
fn register_arguments_arrive() {
    if !with_fake("register_arguments_arrive", &[]) {
        return;
    }
    let wide = sys::cuProfilerStart as *const c_void;
    // SAFETY: the fake's function with this name has the type `Wide`.
    let wide = unsafe { std::mem::transmute::<*const c_void, Wide>(wide) };
    for _ in 0..2 {
        let mut got = [0.0; 17];
        // SAFETY: the fake writes seventeen numbers to `got`, which has room for them.
        let code =
            unsafe { wide(got.as_mut_ptr(), 1, 2, 3, 4, 5, 6, 7, 8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) };
        assert_eq!(code, 0);
        let sent = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
        assert_eq!(got.map(f64::to_bits), sent.map(f64::to_bits));
    }
}

#[test]
fn threads_may_race_to_load() {
    if !with_fake("threads_may_race_to_load", &[]) {
        return;
    }
    let barrier = std::sync::Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut version = 0;
                barrier.wait();
                // SAFETY: `version` is writable.
                let code = unsafe { sys::cuDriverGetVersion(&raw mut version) };
                assert_eq!((code, version), (CUresult::CUDA_SUCCESS, 13000));
            });
        }
    });
}

#[test]
fn library_without_init_is_no_driver() {
    if !with_fake("library_without_init_is_no_driver", &["-DNO_INIT"]) {
        return;
    }
    let error = load().unwrap_err();
    assert!(matches!(error, LoadError::NotADriver { symbol: "cuInit", .. }));
    assert!(error.to_string().ends_with("is not a CUDA driver library: it lacks cuInit"));
    // The library exports this function, but its functions are not used, because it is not a driver. SAFETY: the call
    // only returns an error code.
    let code = unsafe { sys::cuProfilerStart() };
    assert_eq!(code, CUresult::CUDA_ERROR_SHARED_OBJECT_INIT_FAILED);
}

#[test]
fn stub_library_is_no_driver() {
    if !with_fake("stub_library_is_no_driver", &["-DSTUB"]) {
        return;
    }
    let error = load().unwrap_err();
    assert!(matches!(error, LoadError::NoVersion { code: 34, .. }));
    assert!(error.to_string().ends_with("does not tell its version: CUDA error 34"));
}
