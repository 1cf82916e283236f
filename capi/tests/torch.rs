//! The functions that PyTorch calls, on a simulated device. One test, because the default stack is one for the process.

use cumem_c::*;
use std::ptr::null_mut;

#[test]
fn pytorch_allocates_on_the_default_stack() {
    // SAFETY: the test is alone in its process, and has started no thread.
    unsafe { std::env::set_var("CUMEM_PROFILE", "gtx1080ti:1GiB") };
    // SAFETY: as above.
    unsafe { std::env::set_var("CUMEM_STACK", "device | pool | limit(100%) | statistics") };
    cumem_torch_init(1);
    let mut stack = null_mut();
    // SAFETY: the pointers are valid.
    assert_eq!(unsafe { cumem_stack_default(0, &raw mut stack, null_mut()) }, CumemStatus::Success);
    let counters = || {
        let mut counters = CumemCounters::default();
        // SAFETY: as above.
        assert_eq!(unsafe { cumem_get_counters(stack, &raw mut counters, null_mut()) }, CumemStatus::Success);
        counters
    };
    // SAFETY: null is the legacy default stream.
    let memory = unsafe { cumem_torch_alloc(1000, 0, null_mut()) };
    assert_eq!((memory.is_null(), counters().live_bytes), (false, 1000));
    // SAFETY: as above.
    unsafe { cumem_torch_record_stream(memory, null_mut()) };
    // SAFETY: nothing uses the memory. PyTorch may pass another size.
    unsafe { cumem_torch_free(memory, 0, 0, null_mut()) };
    assert_eq!(counters().live_blocks, 0);
    // SAFETY: as above. A size of zero is no error.
    assert!(unsafe { cumem_torch_alloc(0, 0, null_mut()) }.is_null());
    assert!(counters().reserved_bytes > 0);
    cumem_torch_empty_cache();
    assert_eq!(counters().reserved_bytes, 0);
    cumem_torch_memory_fraction(0.5, 0);
    // Without the C++ library, the result is null. (`ci/capi.sh` tests the exception.)
    // SAFETY: as above.
    assert!(unsafe { cumem_torch_alloc(513 << 20, 0, null_mut()) }.is_null());
    assert_eq!(counters().failures, 1);
}
