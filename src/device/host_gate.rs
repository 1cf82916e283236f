//! [`HostGate`]: keeps host access to managed memory and work apart on a device without concurrent managed access.
//!
//! On such a device, the driver unmaps all managed memory from the host while anything runs on the device, whichever
//! memory it uses (CUDA programming guide, "coherency and concurrency"). A host access then crashes the process. So a
//! host guard over managed memory closes the gate: it waits for the device, and until the guard is dropped, this
//! library refuses to enqueue work.

use super::error::DeviceError;
use cumem_driver::{DeviceId, DriverError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Counts the open host guards and the calls that are enqueueing work, for one device.
///
/// The lock protects only the two counters and is not held during a driver call. In a call of a simulator, the closures
/// of kernels may run, and such a closure may use the gate again.
#[derive(Debug, Default)]
pub(crate) struct HostGate {
    figures: Mutex<Figures>,
    passed: Condvar,
}

#[derive(Debug, Default)]
struct Figures {
    /// Number of host guards that are open or wait for the device.
    guards: usize,
    /// Number of calls that are enqueueing work.
    passing: usize,
}

impl HostGate {
    /// Calls `enqueue`, or returns [`DeviceError::HostAccess`] if a host guard is open.
    pub(crate) fn pass<T>(
        &self,
        device: DeviceId,
        enqueue: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DeviceError> {
        let _passing = {
            let mut figures = self.lock();
            if figures.guards > 0 {
                return Err(DeviceError::HostAccess { device, guards: figures.guards });
            }
            figures.passing += 1;
            Passing(self)
        };
        Ok(enqueue()?)
    }

    /// Closes the gate. Then calls `wait`, which waits for the work that was enqueued before.
    pub(crate) fn close(&self, wait: impl Fn() -> Result<(), DriverError>) -> Result<Closed<'_>, DriverError> {
        let (closed, passing) = {
            let mut figures = self.lock();
            figures.guards += 1;
            (Closed(self), figures.passing > 0)
        };
        // `wait` comes before the wait for passing calls. Inside the closure of a kernel, whose enqueueing call may
        // still be passing, `wait` returns an error. Waiting for that call first would deadlock.
        wait()?;
        if passing {
            let figures = self.passed.wait_while(self.lock(), |figures| figures.passing > 0);
            drop(figures.unwrap_or_else(PoisonError::into_inner));
            wait()?;
        }
        Ok(closed)
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call as passing from the check of the gate until its work is enqueued.
struct Passing<'a>(&'a HostGate);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.lock().passing -= 1;
        self.0.passed.notify_all();
    }
}

/// Keeps the gate closed until it is dropped.
#[derive(Debug)]
pub(crate) struct Closed<'a>(&'a HostGate);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.lock().guards -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    const HERE: DeviceId = DeviceId::cuda(0);

    #[test]
    fn the_host_waits_for_the_thread_that_enqueues() {
        let (gate, enqueued) = (&HostGate::default(), &AtomicBool::new(false));
        let (inside, entered) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                gate.pass(HERE, || {
                    inside.send(()).unwrap();
                    gone.recv().unwrap();
                    enqueued.store(true, Ordering::Relaxed);
                    Ok(())
                })
            });
            entered.recv().unwrap();
            // The first `wait` runs before the work is enqueued, and then lets the enqueueing thread continue.
            let waits = Mutex::new(Vec::new());
            let closed = gate.close(|| {
                waits.lock().unwrap().push(enqueued.load(Ordering::Relaxed));
                let _ = go.send(());
                Ok(())
            });
            assert_eq!(*waits.lock().unwrap(), [false, true]);
            let refused = DeviceError::HostAccess { device: HERE, guards: 1 };
            assert_eq!(gate.pass(HERE, || Ok(())), Err(refused));
            drop(closed);
            assert_eq!(gate.pass(HERE, || Ok(())), Ok(()));
        });
    }

    #[test]
    fn a_failed_wait_leaves_the_gate_open() {
        let gate = HostGate::default();
        let error = DriverError::NoSuchDevice { ordinal: 1, count: 1 };
        assert_eq!(gate.close(|| Err(error.clone())).map(drop), Err(error));
        assert_eq!(gate.pass(HERE, || Ok(gate.pass(HERE, || Ok(7)))).unwrap(), Ok(7));
    }
}
