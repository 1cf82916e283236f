//! [`Faults`]: page faults of the device in one buffer, on a simulated device.
#![forbid(unsafe_code)]

use crate::block::Block;
use crate::device::Device;
use cumem_driver::{Location, MigrationCause, Movement, Watcher};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The number of operations whose faults are kept until they are taken. If there are more, the oldest are discarded.
const MOST_KEPT: usize = 64;

/// A log of page faults that a simulator fills. A GPU's driver does not report which pages fault.
#[derive(Debug)]
pub(super) struct Faults {
    device: Location,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    addr: u64,
    end: u64,
    count: u64,
    operations: Vec<Faulted>,
}

/// The bytes of a buffer that one operation faulted in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Faulted {
    /// From the first byte that faulted to the last.
    pub(super) bytes: Range<usize>,
    /// The number of these bytes that migrated.
    pub(super) moved: usize,
}

impl Faults {
    /// Starts a log of the faults of `device` in a block. Returns `None` on a GPU.
    pub(super) fn of(device: &Device, block: &Block) -> Option<Arc<Self>> {
        let model = device.model()?;
        let (addr, end) = (block.addr(), block.addr() + block.size() as u64);
        let log = Mutex::new(Log { addr, end, count: 0, operations: Vec::new() });
        let faults = Arc::new(Self { device: device.id().into(), log });
        let watcher: Weak<Self> = Arc::downgrade(&faults);
        model.watch(watcher);
        Some(faults)
    }

    /// Logs the faults in another block from now on.
    pub(super) fn follow(&self, block: &Block) {
        let mut log = self.log();
        (log.addr, log.end) = (block.addr(), block.addr() + block.size() as u64);
        log.operations.clear();
    }

    /// Returns the number of faults so far.
    pub(super) fn count(&self) -> u64 {
        self.log().count
    }

    /// Removes and returns the bytes that were faulted in since the last call, by operation.
    pub(super) fn take(&self) -> Vec<Faulted> {
        std::mem::take(&mut self.log().operations)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Faults {
    fn notify(&self, movements: &[Movement]) {
        let mut log = self.log();
        let mut operation: Option<Faulted> = None;
        for movement in movements {
            let (start, end) = movement.range();
            let (start, end) = (start.max(log.addr), end.min(log.end));
            if start >= end {
                continue;
            }
            match movement {
                Movement::Fault { by, .. } if *by == self.device => log.count += 1,
                Movement::Migrated { cause: MigrationCause::Fault, to, .. } if *to == self.device => {
                    let (start, end) = ((start - log.addr) as usize, (end - log.addr) as usize);
                    let faulted = operation.get_or_insert(Faulted { bytes: start..end, moved: 0 });
                    faulted.bytes = faulted.bytes.start.min(start)..faulted.bytes.end.max(end);
                    faulted.moved += end - start;
                }
                _ => {}
            }
        }
        if let Some(faulted) = operation {
            if log.operations.len() == MOST_KEPT {
                log.operations.remove(0);
            }
            log.operations.push(faulted);
        }
    }
}
