//! A forked process has none of the parent's copy threads, and starts its own. It cannot use a simulated machine that
//! another thread of the parent used at that moment.

use crate::common;
use cumem::buffer::TransferPath;
use cumem::error::ErrorReport;
use cumem::sim::{Profile, Simulator};
use cumem::{Buffer, CudaResource, Device, DriverError, ManagedResource, Stream, UnifiedBuffer};
use cumem_test_support::own_process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

const LEN: usize = 40 << 20;

own_process!(transfers_go_on_after_a_fork, a_child_of_a_busy_parent_gets_an_error);

fn transfers_go_on_after_a_fork() {
    let device = common::simulated();
    let stream = Stream::new(&device).unwrap();
    let resource = ManagedResource::new(&device).unwrap();
    let mut buffer = UnifiedBuffer::<u8, _>::zeroed(LEN, &stream, resource).unwrap();
    let mut round = |value: u8| {
        let mut back = vec![0; LEN];
        buffer.upload(&vec![value; LEN]).unwrap();
        assert_eq!(buffer.download(&mut back), Ok(TransferPath::Ring));
        back.iter().all(|byte| *byte == value)
    };
    assert!(round(1));
    // SAFETY: no other thread holds a lock, because the copy threads are idle. The child ends in this block.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: `alarm` only sets a timer, which ends the child if it hangs.
        unsafe { libc::alarm(60) };
        let sound = round(2);
        // SAFETY: `_exit` ends the process at once.
        unsafe { libc::_exit(if sound { 0 } else { 1 }) };
    }
    assert!(child > 0);
    let mut status = -1;
    // SAFETY: `status` is writable.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0));
    assert!(round(3));
}

/// Forks while another thread uses the machine all the time. In each child the machine works, or its calls return an
/// error. No child hangs.
fn a_child_of_a_busy_parent_gets_an_error() {
    let device = common::simulated();
    let (simulator, stop) = (device.simulator().unwrap().clone(), AtomicBool::new(false));
    let refused = thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, memory) = (Stream::new(&device).unwrap(), CudaResource::new(&device));
            while !stop.load(Relaxed) {
                // Most of this time is spent on the bytes, under the lock of the machine.
                Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory).unwrap();
            }
        });
        let refused = (0..300).filter(|_| child_is_refused(&device, &simulator)).count();
        stop.store(true, Relaxed);
        refused
    });
    assert!(refused > 0, "no child was forked while the machine was in use");
    assert!(device.synchronize().is_ok(), "the parent's machine works");
}

/// Forks a child that uses the machine, and reports whether the machine refused the child.
fn child_is_refused(device: &Device, simulator: &Simulator) -> bool {
    // SAFETY: the child uses the machine and the allocator, which glibc keeps usable, and ends in this block.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: `alarm` only sets a timer, which ends the child if it hangs.
        unsafe { libc::alarm(60) };
        let used = Stream::new(device).map_err(|error| error.to_string()).and_then(|stream| {
            let zeros = Buffer::<u8, _>::zeroed(1000, &stream, CudaResource::new(device));
            zeros.map(|zeros| zeros.len()).map_err(|error| ErrorReport::of(&error).to_string())
        });
        let is_simulation = |error: &DriverError| matches!(error, DriverError::Simulation { .. });
        let status = match used {
            Ok(1000) => 0,
            Err(text) if text.contains("was forked") && device.synchronize().is_err_and(|e| is_simulation(&e)) => {
                // What makes no call of the driver works on the figures of an empty machine.
                let _ = (simulator.clock(), simulator.live_allocations());
                i32::from(Device::simulated(Profile::default()).unwrap().synchronize().is_ok())
            }
            _ => 2,
        };
        // SAFETY: `_exit` ends the process at once.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0);
    let mut status = -1;
    // SAFETY: `status` is writable.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(ended == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) < 2, "{status:#x}");
    libc::WEXITSTATUS(status) == 1
}
