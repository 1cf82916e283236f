//! The threads of this process that copy for transfers.
#![forbid(unsafe_code)]

use crate::device::Locked;
use cumem_driver::deferral::after_locks;
use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, Mutex};
use std::{mem, process, thread};

/// Largest number of copy threads. With eight, an H100's host keeps up with the link. More threads only take longer to
/// wake (`benches/README.md`).
const THREADS_MAX: usize = 8;

/// Returns the number of copy threads for this machine. The thread that runs a transfer copies besides them.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// Returns the copy threads, or `None` if they cannot be started.
///
/// The first call starts them. They park while there is nothing to copy, and live until the process ends. All
/// transfers share them. Their tasks only copy and never block, so no transfer blocks another one.
pub(super) fn thread_pool() -> Option<Arc<ThreadPool>> {
    static STARTED: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);
    let mut started = Locked::new(&STARTED);
    let this_process = process::id();
    if let Some((_, threads)) = started.as_ref().filter(|(process, _)| *process == this_process) {
        return Some(threads.clone());
    }
    let name = |i| format!("cumem-copy-{i}");
    match ThreadPoolBuilder::new().num_threads(count()).thread_name(name).build() {
        Ok(threads) => {
            let threads = Arc::new(threads);
            // After a fork, the child has the parent's pool but none of its threads. Dropping that pool would try to
            // end them, so it is leaked.
            mem::forget(started.replace((this_process, threads.clone())));
            Some(threads)
        }
        Err(error) => {
            after_locks(move || tracing::debug!(%error, "the copy threads for transfers cannot be started"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_copy_threads_start_once_and_serve_several_transfers() {
        let (threads, again) = (thread_pool().unwrap(), thread_pool().unwrap());
        assert!(Arc::ptr_eq(&threads, &again));
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    threads.in_place_scope(|tasks| {
                        for _ in 0..100 {
                            tasks.spawn(|_| _ = done.fetch_add(1, Ordering::Relaxed));
                        }
                    });
                });
            }
        });
        assert_eq!(done.into_inner(), 400);
    }
}
