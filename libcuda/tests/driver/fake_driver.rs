//! With a driver that has only four functions.

use std::env;
use std::ffi::c_void;
use std::ptr;

use cumem_libcuda::{DriverVersion, LoadError, SYMBOLS, load};
use cumem_test_support::{Driver, with_driver};
use cust::sys::{self, CUresult};

with_driver! {
    symbols_are_looked_up: Driver::four_functions();
    missing_symbol_returns_not_found: Driver::four_functions();
    stack_arguments_arrive: Driver::four_functions();
    register_arguments_arrive: Driver::four_functions();
    threads_may_race_to_load: Driver::four_functions();
    library_without_init_is_no_driver: Driver::without_init();
    stub_library_is_no_driver: Driver::four_functions().set("STUB", 1);
}

fn symbols_are_looked_up() {
    let driver = load().unwrap();
    let version = DriverVersion { major: 13, minor: 0 };
    assert_eq!(driver.driver_version(), version);
    assert_eq!(driver.driver_version().to_string(), "13.0");
    assert_eq!(driver.path(), env::var_os(cumem_libcuda::ENV).unwrap());
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

fn missing_symbol_returns_not_found() {
    assert!(SYMBOLS.contains(&"cuMemAlloc_v2"));
    for _ in 0..2 {
        let mut address = 0;
        // SAFETY: `address` is writable.
        let code = unsafe { sys::cuMemAlloc_v2(&raw mut address, 16) };
        assert_eq!((code, address), (CUresult::CUDA_ERROR_NOT_FOUND, 0));
    }
}

/// The first call loads the driver. The second call jumps to it directly.
fn stack_arguments_arrive() {
    for _ in 0..2 {
        let mut got = [0_usize; 10];
        // SAFETY: the fake driver writes ten words to the array that the last argument but one points to.
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

/// The same with every argument register in use.
fn register_arguments_arrive() {
    let wide = sys::cuProfilerStart as *const c_void;
    // SAFETY: the fake driver's function of this name has the type `Wide`.
    let wide = unsafe { std::mem::transmute::<*const c_void, Wide>(wide) };
    for _ in 0..2 {
        let mut got = [0.0; 17];
        // SAFETY: the fake driver writes seventeen numbers to `got`.
        let code =
            unsafe { wide(got.as_mut_ptr(), 1, 2, 3, 4, 5, 6, 7, 8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) };
        assert_eq!(code, 0);
        let sent = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
        assert_eq!(got.map(f64::to_bits), sent.map(f64::to_bits));
    }
}

fn threads_may_race_to_load() {
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

fn library_without_init_is_no_driver() {
    let error = load().unwrap_err();
    assert!(matches!(error, LoadError::NotADriver { symbol: "cuInit", .. }));
    assert!(error.to_string().ends_with("is not a CUDA driver library: it lacks cuInit"));
    // The library has this function, but a library that is no driver is not used.
    // SAFETY: without a driver the function only returns an error code.
    let code = unsafe { sys::cuProfilerStart() };
    assert_eq!(code, CUresult::CUDA_ERROR_SHARED_OBJECT_INIT_FAILED);
}

fn stub_library_is_no_driver() {
    let error = load().unwrap_err();
    assert!(matches!(error, LoadError::NoVersion { code: 34, .. }));
    assert!(error.to_string().ends_with("does not report its version: CUDA error 34"));
}
