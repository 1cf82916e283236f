//! Injected failures, and failures of kernels.

use super::super::{FaultCall, Profile, Simulator};
use super::{MIB, Rig};
use cumem_driver::{CudaErrorCode, Driver, DriverError, HostKernel, ModuleImage, RawEvent, RawModule, RawStream};

/// A program that makes calls of several kinds. The program frees its allocations, whichever call fails.
fn program(rig: &Rig) -> Result<(), DriverError> {
    let sim = &rig.sim;
    let device = sim.allocate_device(0, MIB)?;
    let inner = (|| {
        let managed = sim.allocate_managed(0, MIB)?;
        let inner = (|| {
            rig.copy(device.as_ptr(), [1_u8; 64].as_ptr(), 64, rig.stream)?;
            // SAFETY: memory and stream are live.
            unsafe { sim.prefetch(0, managed.as_ptr(), MIB, sim.device_id(0).into(), rig.stream) }?;
            rig.launch(HostKernel::new("k", |_| ()).writes(managed.as_ptr() as u64, 64), rig.stream)?;
            rig.sync(rig.stream)
        })();
        let freed = rig.free(managed).or_else(|_| rig.free(managed));
        inner.and(freed)
    })();
    let freed = rig.free(device).or_else(|_| rig.free(device));
    inner.and(freed)
}

#[test]
fn each_call_of_a_program_can_fail_and_nothing_leaks() {
    let rig = Rig::h100();
    program(&rig).unwrap();
    let before = rig.sim.calls(FaultCall::Any);
    program(&rig).unwrap();
    let calls = rig.sim.calls(FaultCall::Any) - before;
    assert!(calls >= 7, "{calls}");
    let mut failed = 0;
    for n in 1..=calls {
        rig.sim.fail_nth(FaultCall::Any, n, CudaErrorCode(4242));
        match program(&rig) {
            Err(error) => failed += u32::from(error.code() == Some(CudaErrorCode(4242))),
            Ok(()) => assert!(n >= calls - 1, "only the frees are tried again"),
        }
        rig.sim.clear_faults();
        assert!(rig.sim.live_allocations().no_memory(), "call {n}");
        assert_eq!(rig.sim.memory_info(0).unwrap().free, 80 << 30, "call {n}");
    }
    assert!(u64::from(failed) >= calls - 2, "{failed} of {calls}");
}

#[test]
fn a_failed_call_changes_nothing() {
    let rig = Rig::h100();
    let device = rig.device(64);
    rig.fill(device, 1, 64);
    rig.sim.fail_nth(FaultCall::Copy, 1, CudaErrorCode::UNKNOWN);
    let error = rig.copy(device.as_ptr(), [2_u8; 64].as_ptr(), 64, rig.stream).unwrap_err();
    assert!(matches!(error, DriverError::Call { call: "cuMemcpyAsync", .. }), "{error}");
    assert_eq!(rig.bytes(device, 64), [1; 64]);
}

#[test]
fn a_kernel_that_panics_is_reported_once_and_the_device_goes_on() {
    let rig = Rig::h100();
    let device = rig.device(64);
    rig.launch(HostKernel::new("broken", |_| panic!("no such luck")), rig.stream).unwrap();
    rig.fill(device, 3, 64);
    let error = rig.sync(rig.stream).unwrap_err();
    assert!(error.to_string().contains("kernel broken panicked: no such luck"), "{error}");
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.bytes(device, 64), [3; 64]);
}

#[test]
fn a_kernel_cannot_wait_for_the_device_but_can_do_the_rest() {
    let rig = Rig::h100();
    let (sim, stream) = (rig.sim.clone(), rig.stream);
    let work = move |_: &cumem_driver::KernelMemory<'_>| {
        let refused = sim.synchronize_device(0).unwrap_err();
        assert_eq!(refused.code(), Some(CudaErrorCode::NOT_PERMITTED));
        let memory = sim.allocate_device(0, 4096).unwrap();
        let mut out = [0_u8; 16];
        // SAFETY: memory and stream are live.
        let refused = unsafe { sim.copy_async(0, out.as_mut_ptr(), memory.as_ptr(), 16, stream) }.unwrap_err();
        assert_eq!(refused.code(), Some(CudaErrorCode::NOT_PERMITTED));
        let event = sim.create_event(0, false).unwrap();
        // SAFETY: only this kernel uses the event.
        unsafe { sim.destroy_event(0, event) }.unwrap();
    };
    rig.launch(HostKernel::new("reentrant", work), rig.stream).unwrap();
    rig.sync(rig.stream).unwrap();
    assert_eq!(rig.sim.live_allocations().device.blocks, 1);
}

#[test]
fn a_refused_kernel_drops_its_closure_without_the_lock() {
    struct Frees(Simulator, std::ptr::NonNull<u8>);
    // SAFETY: the value holds a handle, and an address that is used only to free it.
    unsafe impl Send for Frees {}
    impl Drop for Frees {
        fn drop(&mut self) {
            // SAFETY: nothing else uses the memory.
            unsafe { self.0.free(0, self.1) }.expect("no kernel is running");
        }
    }
    let rig = Rig::new(Profile::tiny(4 * MIB as u64));
    let (managed, pinned) = (rig.managed(4096), rig.sim.allocate_pinned(0, 4096).unwrap());
    let _all = rig.device(2 * MIB);
    let held = Frees(rig.sim.clone(), rig.device(2 * MIB));
    let starved = HostKernel::new("starved", move |_| drop(held)).writes(managed.as_ptr() as u64, 64);
    rig.launch(starved, rig.stream).unwrap();
    assert!(rig.sync(rig.stream).unwrap_err().to_string().contains("found no device memory"));
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 2 * MIB);

    let held = Frees(rig.sim.clone(), rig.device(2 * MIB));
    rig.launch(HostKernel::new("a millisecond", |_| ()).operations(67_000_000_000), rig.stream).unwrap();
    let late = HostKernel::new("late", move |_| drop(held)).reads(pinned.as_ptr() as u64, 64);
    rig.launch(late, rig.stream).unwrap();
    // SAFETY: a kernel still uses the memory; the test checks that the simulator reports it.
    unsafe { rig.sim.free_pinned(0, pinned) }.unwrap();
    assert!(rig.sync(rig.stream).unwrap_err().to_string().contains("freed"));
    assert_eq!(rig.sim.memory_info(0).unwrap().free, 2 * MIB);
}

#[test]
fn migrations_before_a_failed_operation_are_counted() {
    let rig = Rig::h100();
    let (managed, pinned) = (rig.managed(2 * MIB), rig.sim.allocate_pinned(0, 2 * MIB).unwrap());
    rig.sim.host_access(0, managed.as_ptr(), 2 * MIB, true).unwrap();
    rig.launch(HostKernel::new("a millisecond", |_| ()).operations(67_000_000_000), rig.stream).unwrap();
    rig.copy(pinned.as_ptr(), managed.as_ptr(), 2 * MIB, rig.stream).unwrap();
    // SAFETY: a copy still uses the memory; the test checks that the simulator reports it.
    unsafe { rig.sim.free_pinned(0, pinned) }.unwrap();
    assert!(rig.sync(rig.stream).unwrap_err().to_string().contains("freed"));
    let here = rig.sim.device_id(0);
    let statistics = rig.sim.statistics(here).unwrap();
    let moved = rig.sim.residency(managed.as_ptr(), 2 * MIB).unwrap().on(here);
    assert_eq!((statistics.migrated_to_device, moved), (2 << 20, 2 << 20));
    assert!(statistics.faults > 0 && statistics.copied_to_host == 0, "{statistics:?}");
}

#[test]
fn strange_handles_are_refused() {
    let rig = Rig::h100();
    let invalid = Some(CudaErrorCode::INVALID_HANDLE);
    for handle in [3, 15, 16 + 9, u64::MAX, rig.stream.0 + (1 << 32)] {
        assert_eq!(rig.sync(RawStream(handle)).unwrap_err().code(), invalid, "{handle}");
        // SAFETY: the handle is invalid; the test checks that it is rejected.
        let event = unsafe { rig.sim.query_event(0, RawEvent(handle)) };
        assert_eq!(event.unwrap_err().code(), invalid, "{handle}");
    }
    let event = rig.sim.create_event(0, false).unwrap();
    // SAFETY: the event is live.
    unsafe { rig.sim.destroy_event(0, event) }.unwrap();
    // SAFETY: the event no longer exists; the test checks that its handle is rejected.
    assert_eq!(unsafe { rig.sim.destroy_event(0, event) }.unwrap_err().code(), invalid);
    assert!(matches!(load(&rig.sim).unwrap_err(), DriverError::NotSupported { .. }));
    let error = rig.sim.allocate_device(5, 1).unwrap_err();
    assert!(matches!(error, DriverError::NoSuchDevice { ordinal: 5, count: 1 }), "{error}");
    let two = Simulator::new([Profile::default(), Profile::default()]).unwrap();
    let stream = two.create_stream(0, false).unwrap();
    // SAFETY: the stream belongs to another device; the test checks that it is rejected.
    assert_eq!(unsafe { two.synchronize_stream(1, stream) }.unwrap_err().code(), invalid);
}

#[test]
fn the_error_for_ptx_names_the_call_to_use_instead() {
    let sim = Simulator::new([Profile::default()]).unwrap();
    let error = load(&sim).unwrap_err().to_string();
    assert!(error.contains("does not support PTX") && error.contains("`Stream::launch_host`"), "{error}");
}

fn load(sim: &Simulator) -> Result<RawModule, DriverError> {
    // SAFETY: the image is no binary.
    unsafe { sim.load_module(0, ModuleImage::Ptx(".version 7.0")) }
}
