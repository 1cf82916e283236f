//! A forked process has none of the parent's copy threads, and starts its own.

use crate::common;
use cumem::buffer::TransferPath;
use cumem::{ManagedResource, Stream, UnifiedBuffer};
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
