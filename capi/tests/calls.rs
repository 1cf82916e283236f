//! The functions, called as C calls them: their results, and what wrong calls do.

mod common;

use common::{Opened, error, open, text_of};
use cumem_c::*;
use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};

#[test]
fn memory_is_allocated_and_freed() {
    let stack = open(c"device | pool | limit(1GiB)");
    let stream = stack.stream();
    for size in [1, 1000, 1 << 20] {
        let memory = stack.allocate(size, stream).unwrap();
        assert!(!memory.is_null() && memory.addr().is_multiple_of(256));
        assert_eq!(stack.counters().live_bytes, size as u64);
        assert_eq!(stack.free(memory, size, stream), Ok(()));
    }
    let counters = stack.counters();
    assert_eq!((counters.live_bytes, counters.live_blocks, counters.peak_live_bytes), (0, 0, 1 << 20));
    assert!(counters.reserved_bytes >= 1 << 20 && counters.peak_reserved_bytes >= counters.reserved_bytes);
    assert_eq!(stack.trim(0), Ok(counters.reserved_bytes as usize));
    assert_eq!(stack.counters().reserved_bytes, 0);
    // SAFETY: no thread closes the stack.
    assert_eq!(unsafe { cumem_reset_peak(stack.0, null_mut()) }, CumemStatus::Success);
    let counters = stack.counters();
    assert_eq!((counters.peak_live_bytes, counters.peak_reserved_bytes), (0, 0));
}

#[test]
fn zero_bytes_are_null_and_null_is_freed() {
    let stack = open(c"device | pool");
    let memory = stack.allocate(0, null_mut()).unwrap();
    assert!(memory.is_null());
    assert_eq!(stack.free(memory, 0, null_mut()), Ok(()));
}

#[test]
fn wrong_frees_are_told_apart_and_change_nothing() {
    for text in [c"device | pool", c"device", c"managed | pool | statistics | prefetch"] {
        let (stack, stream) = (open(text), null_mut());
        let memory = stack.allocate(1000, stream).unwrap();
        let status = |result: Result<(), CumemError>| result.unwrap_err().status;
        let inner = stack.free(memory.wrapping_byte_add(256), 0, stream).unwrap_err();
        assert_eq!((inner.status, inner.address), (CumemStatus::InnerAddress, memory.addr() as u64 + 256));
        assert!(inner.text().contains("lies in the live block of"), "{inner:?}");
        assert_eq!(status(stack.free(memory, 999, stream)), CumemStatus::WrongSize);
        let foreign: *mut c_void = (&raw const stack).cast_mut().cast();
        assert_eq!(status(stack.free(foreign, 0, stream)), CumemStatus::ForeignAddress);
        assert_eq!(stack.counters().live_blocks, 1);
        assert_eq!(stack.free(memory, 1000, stream), Ok(()));
        let again = status(stack.free(memory, 1000, stream));
        let pooled = text.to_str().unwrap().contains("pool");
        assert_eq!(again, if pooled { CumemStatus::AlreadyFree } else { CumemStatus::ForeignAddress });
        // Another stack has none of it.
        assert_eq!(status(open(c"device").free(memory, 0, stream)), CumemStatus::ForeignAddress);
    }
}

#[test]
fn errors_have_numbers() {
    let stack = open(c"device | pool | limit(1MiB)");
    let refused = stack.allocate(2 << 20, null_mut()).unwrap_err();
    assert_eq!((refused.status, refused.requested, refused.limit), (CumemStatus::LimitExceeded, 2 << 20, 1 << 20));
    // SAFETY: no thread closes the stack.
    assert_eq!(unsafe { cumem_set_limit(stack.0, 4 << 20, null_mut()) }, CumemStatus::Success);
    let memory = stack.allocate(2 << 20, null_mut()).unwrap();
    stack.free(memory, 0, null_mut()).unwrap();

    let stack = Opened(open_named(c"device", c"gtx1080ti:1GiB"));
    let full = stack.allocate(2 << 30, null_mut()).unwrap_err();
    assert_eq!((full.status, full.requested, full.limit), (CumemStatus::OutOfMemory, 2 << 30, 1 << 30));
    assert!(full.available > 0 && full.text().starts_with("out of memory: device was asked for 2 GiB"), "{full:?}");
    let no_limit = unsafe_status(|error| {
        // SAFETY: no thread closes the stack.
        unsafe { cumem_set_limit(stack.0, 1, error) }
    });
    assert_eq!(no_limit.status, CumemStatus::NotSupported);
}

fn open_named(spec: &CStr, profile: &CStr) -> *mut CumemStack {
    let mut stack = null_mut();
    // SAFETY: both texts end with 0, and the pointers are valid.
    let status = unsafe { cumem_stack_open(spec.as_ptr(), 0, profile.as_ptr(), &raw mut stack, null_mut()) };
    assert_eq!(status, CumemStatus::Success);
    stack
}

/// Returns the error of a call that must fail.
fn unsafe_status(call: impl FnOnce(*mut CumemError) -> CumemStatus) -> CumemError {
    let mut error = CumemError::NONE;
    let status = call(&raw mut error);
    assert!(status != CumemStatus::Success && status == error.status, "{error:?}");
    error
}

#[test]
fn a_text_that_is_no_stack_is_an_error_that_points_at_the_word() {
    let profile = c"a100".as_ptr();
    let refused = |spec: *const _, device, profile| {
        let mut stack = std::ptr::dangling_mut();
        // SAFETY: the texts are null or end with 0, and the pointers are valid.
        let failed = unsafe_status(|error| unsafe { cumem_stack_open(spec, device, profile, &raw mut stack, error) });
        assert!(stack.is_null());
        failed
    };
    let failed = refused(c"pinned | pool | prefetch".as_ptr(), 0, profile);
    assert_eq!(failed.status, CumemStatus::InvalidSpec);
    assert!(failed.text().contains("^^^^^^^^ needs migratable memory"), "{}", failed.text());
    let names = refused(c"device".as_ptr(), 0, c"b100".as_ptr());
    assert!(names.text().contains("there is no profile `b100`; there are"), "{}", names.text());
    for (spec, device, profile) in [
        (null(), 0, profile),
        (c"device".as_ptr(), 1, profile),
        (c"device".as_ptr(), 0, c"a100:lots".as_ptr()),
        (c"device".as_ptr(), 0, c"a100:80%".as_ptr()),
        (c"device".as_ptr(), -1, null()),
        (c"\xff".as_ptr(), 0, profile),
    ] {
        assert_eq!(refused(spec, device, profile).status, CumemStatus::InvalidArgument);
    }
    let unsupported = refused(c"managed | prefetch".as_ptr(), 0, c"maxwell".as_ptr());
    assert_eq!(unsupported.status, CumemStatus::NotSupported, "{}", unsupported.text());
    // SAFETY: the texts end with 0.
    let null_stack = unsafe { cumem_stack_open(c"device".as_ptr(), 0, profile, null_mut(), null_mut()) };
    assert_eq!(null_stack, CumemStatus::InvalidArgument);
}

#[test]
fn null_and_wrong_arguments_are_errors() {
    let stack = open(c"device | pool");
    let mut place = null_mut();
    let allocate = |handle, size, align, place| {
        // SAFETY: the pointers are null or valid.
        unsafe_status(|error| unsafe { cumem_allocate(handle, size, align, null_mut(), place, error) })
    };
    assert_eq!(allocate(stack.0, 1, 0, null_mut()).text(), "`address` is null");
    for (size, align) in [(1, 3), (usize::MAX, 0), (1, 1 << 63), (isize::MAX as usize, 256)] {
        assert_eq!(
            allocate(stack.0, size, align, &raw mut place).status,
            CumemStatus::InvalidArgument,
            "{size} {align}"
        );
    }
    assert_eq!(allocate(null_mut(), 1, 0, &raw mut place).text(), "the stack is null");
    for handle in
        [8_usize, 2 << 12, usize::MAX, stack.0.addr() + (2 << 12), stack.0.addr() ^ (1 << 40), place_of(&stack)]
    {
        let failed = allocate(std::ptr::without_provenance_mut(handle), 1, 0, &raw mut place);
        assert_eq!(failed.status, CumemStatus::InvalidStack, "{handle:#x}");
    }
    // SAFETY: the pointers are null.
    assert_eq!(unsafe { cumem_get_counters(stack.0, null_mut(), null_mut()) }, CumemStatus::InvalidArgument);
    // SAFETY: the pointers are valid.
    let format = unsafe_status(|error| unsafe { cumem_snapshot(stack.0, 7, (&raw mut place).cast(), error) });
    assert_eq!(format.text(), "7 is no format of a snapshot");
    // SAFETY: as above.
    assert_eq!(unsafe { cumem_stack_text(stack.0, null_mut(), null_mut()) }, CumemStatus::InvalidArgument);
    // SAFETY: as above.
    assert_eq!(unsafe { cumem_stream_destroy(stack.0, null_mut(), null_mut()) }, CumemStatus::InvalidArgument);
    // SAFETY: the text is null.
    unsafe { cumem_text_free(null_mut()) };
}

fn place_of(stack: &Opened) -> usize {
    (&raw const *stack).addr()
}

#[test]
fn a_closed_stack_is_an_error_and_a_busy_one_stays_open() {
    let stack = open(c"device | pool");
    let memory = stack.allocate(1000, null_mut()).unwrap();
    // SAFETY: no other thread uses the stack.
    let busy = unsafe_status(|error| unsafe { cumem_stack_close(stack.0, error) });
    assert_eq!(
        (busy.status, &*busy.text()),
        (CumemStatus::Busy, "the stack has 1 live block, which must be freed first")
    );
    stack.free(memory, 0, null_mut()).unwrap();
    let handle = stack.0;
    drop(stack);
    let after = Opened(handle);
    assert_eq!(after.allocate(1, null_mut()).unwrap_err().status, CumemStatus::InvalidStack);
    assert_eq!(after.free(memory, 0, null_mut()).unwrap_err().status, CumemStatus::InvalidStack);
    // Another stack in the same slot has another handle.
    let others: Vec<_> = (0..50).map(|_| open(c"device")).collect();
    assert!(others.iter().all(|other| other.0 != handle));
    assert_eq!(after.trim(0).unwrap_err().status, CumemStatus::InvalidStack);
    // SAFETY: no other thread uses the stack.
    assert_eq!(unsafe { cumem_stack_close(handle, null_mut()) }, CumemStatus::InvalidStack);
    std::mem::forget(after);
}

#[test]
fn texts_describe_the_stack_and_its_memory() {
    let stack = open(c"device | pool(initial=4MiB) | limit(1GiB)");
    let memory = stack.allocate(1000, null_mut()).unwrap();
    // SAFETY: the pointers are valid.
    let layers = text_of(|text| unsafe { cumem_stack_text(stack.0, text, error()) });
    assert!(layers.starts_with("limit(1GiB) over pool(initial=4MiB) over device on sim"), "{layers}");
    // SAFETY: as above.
    let snapshot = text_of(|text| unsafe { cumem_snapshot(stack.0, CumemFormat::Text as i32, text, error()) });
    assert!(snapshot.contains("up to 1.00 KiB: 1 block"), "{snapshot}");
    // SAFETY: as above.
    let json = text_of(|text| unsafe { cumem_snapshot(stack.0, CumemFormat::Json as i32, text, error()) });
    let region = format!("{{\"address\":{},\"bytes\":1024,\"state\":\"live\",\"stream\":", memory.addr());
    assert!(json.starts_with("{\"pools\":[{\"reserved\":4194304,") && json.contains(&region), "{json}");
    stack.free(memory, 0, null_mut()).unwrap();
}

#[test]
fn managed_memory_is_used_through_its_address() {
    let stack = open(c"managed | pool");
    let stream = stack.stream();
    let memory = stack.allocate(4000, stream).unwrap();
    // SAFETY: the stream exists.
    assert_eq!(unsafe { cumem_stream_synchronize(stack.0, stream, error()) }, CumemStatus::Success);
    // SAFETY: the host may access managed memory, which has 4000 bytes.
    let numbers = unsafe { std::slice::from_raw_parts_mut(memory.cast::<u32>(), 1000) };
    numbers.iter_mut().zip(0..).for_each(|(number, n)| *number = n);
    assert_eq!(numbers.iter().sum::<u32>(), 499_500);
    stack.free(memory, 4000, stream).unwrap();
    // SAFETY: the stream was created by the library.
    assert_eq!(unsafe { cumem_stream_destroy(stack.0, stream, error()) }, CumemStatus::Success);
    // SAFETY: as above, and this is refused.
    assert_eq!(unsafe { cumem_stream_destroy(stack.0, stream, error()) }, CumemStatus::InvalidArgument);
    // The pool still has memory of the destroyed stream, and gives it to another one.
    let other = stack.stream();
    let memory = stack.allocate(4000, other).unwrap();
    stack.free(memory, 4000, other).unwrap();
}

/// Many threads, each with its own stream. Each frees what the one before it allocated.
#[test]
fn threads_use_one_stack() {
    let stack = open(c"device | pool | statistics");
    let shared: Vec<_> = (0..16).map(|_| std::sync::atomic::AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (stack, shared) = (&stack, &shared);
            scope.spawn(move || {
                let stream = stack.stream();
                for step in 0..1000_usize {
                    let memory = stack.allocate(step * 37 % 5000 + 1, stream).unwrap();
                    let place = &shared[(thread + step) % shared.len()];
                    let old = place.swap(memory.addr(), std::sync::atomic::Ordering::AcqRel);
                    stack.free(std::ptr::without_provenance_mut(old), 0, stream).unwrap();
                }
            });
        }
    });
    for place in shared {
        stack.free(std::ptr::without_provenance_mut(place.into_inner()), 0, null_mut()).unwrap();
    }
    assert_eq!(stack.counters().live_blocks, 0);
}

/// The memory is used on another stream, which is busy when the memory is freed.
#[test]
fn recorded_uses_delay_the_memory() {
    let stack = open(c"device | pool");
    let [owner, other] = [(); 2].map(|()| stack.stream());
    let memory = stack.allocate(3 << 20, owner).unwrap();
    let record = |address| {
        let mut error = CumemError::NONE;
        // SAFETY: both streams exist.
        let status = unsafe { cumem_record_use(stack.0, address, other, &raw mut error) };
        assert_eq!(status, error.status);
        status
    };
    assert_eq!(record(memory), CumemStatus::Success);
    assert_eq!(record(memory.wrapping_byte_add(8)), CumemStatus::InnerAddress);
    assert_eq!(record(null_mut()), CumemStatus::InvalidArgument);
    stack.free(memory, 3 << 20, owner).unwrap();
    assert_eq!(record(memory), CumemStatus::AlreadyFree);
    assert_eq!(stack.counters().live_blocks, 0);
}

#[test]
fn the_kind_of_memory_is_known() {
    for (spec, expected) in [(c"device", 2), (c"managed | pool", 3), (c"pinned", 3), (c"host", 1)] {
        let (stack, mut access) = (open(spec), 0);
        // SAFETY: the pointers are valid.
        assert_eq!(unsafe { cumem_stack_access(stack.0, &raw mut access, null_mut()) }, CumemStatus::Success);
        assert_eq!(access, expected, "{spec:?}");
    }
}
