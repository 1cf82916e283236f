//! A time limit, and a device with work whose closures call the library.

use std::io::{Write as _, stderr};
use std::process;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

pub(crate) const MIB: usize = 1 << 20;

/// Far more than any of these tests takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `work` on a thread of its own. If it does not end, the process ends with a message, because a thread that waits
/// for itself cannot be ended otherwise.
pub(crate) fn within_limit(name: &str, work: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let worker = thread::spawn(move || {
        let _ended = sender;
        work();
    });
    if receiver.recv_timeout(LIMIT) == Err::<(), _>(RecvTimeoutError::Timeout) {
        // Not `eprintln`, whose text the test harness would keep.
        let _ = writeln!(stderr(), "{name} hangs: user code waits for a lock of the library that its own caller holds");
        process::exit(101);
    }
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Calls `work` on this thread, and then on another one, which this thread waits for.
pub(crate) fn here_and_elsewhere(work: impl Fn() + Send + Sync) {
    work();
    thread::scope(|scope| scope.spawn(&work).join().unwrap());
}
