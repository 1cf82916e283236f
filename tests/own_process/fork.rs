//! A process that was forked has none of the threads that copy, and starts its own.

use crate::common;
use cumem::{ManagedResource, Stream, TransferPath, UnifiedBuffer};
use cumem_test_support::own_process;

const LEN: usize = 40 << 20;

own_process!(transfers_go_on_after_a_fork);

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
    // SAFETY: the only other threads copy, and have nothing to do; the child ends without running what is the parent's.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it only sets a timer, which ends a child that waits for ever.
        unsafe { libc::alarm(60) };
        let sound = round(2);
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if sound { 0 } else { 1 }) };
    }
    assert!(child > 0);
    let mut status = -1;
    // SAFETY: the status is this thread's.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0));
    assert!(round(3));
}
