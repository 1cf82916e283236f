//! The threads of this process that copy for transfers.
#![forbid(unsafe_code)]

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, Mutex, PoisonError};
use std::{mem, process, thread};

/// With so many an H100's host keeps up with the link; more only take longer to wake (`benches/README.md`).
const THREADS: usize = 8;

/// How many threads are worth while on this machine, besides the one that asks.
pub(super) fn size() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// All of them: started when first needed, parked while there is nothing to copy, there until the process ends. `None`
/// where they cannot be had.
///
/// Their work only copies and never waits, so that transfers which share them do not wait for each other.
pub(super) fn get() -> Option<Arc<ThreadPool>> {
    static CREW: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);
    let mut crew = CREW.lock().unwrap_or_else(PoisonError::into_inner);
    let here = process::id();
    if let Some((_, pool)) = crew.as_ref().filter(|(process, _)| *process == here) {
        return Some(pool.clone());
    }
    let name = |i| format!("cumem-copy-{i}");
    match ThreadPoolBuilder::new().num_threads(size()).thread_name(name).build() {
        Ok(pool) => {
            let pool = Arc::new(pool);
            // After a fork: the threads of the other process are not here to be ended.
            mem::forget(crew.replace((here, pool.clone())));
            Some(pool)
        }
        Err(error) => {
            tracing::debug!(%error, "no threads for transfers");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn it_is_started_once_and_serves_several_at_a_time() {
        let (crew, again) = (get().unwrap(), get().unwrap());
        assert!(Arc::ptr_eq(&crew, &again));
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    crew.in_place_scope(|tasks| {
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
