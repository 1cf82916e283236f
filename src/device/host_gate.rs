//! [`HostGate`]: on a device without concurrent managed access, the host touches unified memory only while nothing
//! runs, and nothing starts while the host touches it.
//!
//! There the driver unmaps all unified memory from the host whenever anything runs on the device, whatever it uses
//! (CUDA programming guide, "coherency and concurrency"); a touch is a fault of the process. So a guard over such
//! memory closes the gate, and what this library would enqueue meanwhile is refused.

use super::error::DeviceError;
use cumem_driver::{DeviceId, DriverError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who is on which side, of one device. Only the figures are locked: in a call of a simulator the work of kernels may
/// be done, and that may come here again.
#[derive(Debug, Default)]
pub(crate) struct HostGate {
    figures: Mutex<Figures>,
    passed: Condvar,
}

#[derive(Debug, Default)]
struct Figures {
    /// Host guards that are open, or wait for the device.
    guards: usize,
    /// Calls that are enqueueing something.
    passing: usize,
}

impl HostGate {
    /// Enqueues with `enqueue`, unless the host is at it.
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

    /// Closes the gate, and waits with `wait` for what has passed it.
    pub(crate) fn close(&self, wait: impl Fn() -> Result<(), DriverError>) -> Result<Closed<'_>, DriverError> {
        let (closed, passing) = {
            let mut figures = self.lock();
            figures.guards += 1;
            (Closed(self), figures.passing > 0)
        };
        // First of all: within a kernel's work, which may be why somebody is still passing, it fails.
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

/// A call is between the check and the device's queue.
struct Passing<'a>(&'a HostGate);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.lock().passing -= 1;
        self.0.passed.notify_all();
    }
}

/// Keeps the gate closed.
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
    fn the_host_waits_for_whoever_is_passing() {
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
            // The first wait comes too early for what is being enqueued; it is let go then.
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
    fn a_wait_that_fails_leaves_it_open() {
        let gate = HostGate::default();
        let error = DriverError::NoSuchDevice { ordinal: 1, count: 1 };
        assert_eq!(gate.close(|| Err(error.clone())).map(drop), Err(error));
        assert_eq!(gate.pass(HERE, || Ok(gate.pass(HERE, || Ok(7)))).unwrap(), Ok(7));
    }
}
