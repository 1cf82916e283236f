//! [`Whole`]: the memory of a buffer that is no part of another one.

use crate::failure::Failure;
use crate::opened::{Bytes, Kind, Opened, Unfreed, free, with_bytes};
use crate::parent_only::{ParentOnly, without_gil};
use cumem::device::KeptStream;
use cumem::{Device, DeviceError, Event, LayerExt, Stream};
use cumem_adaptors::PoolState;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub(super) struct Whole {
    /// Locked for reading by threads that use the memory without the GIL, and for writing only for a moment.
    held: RwLock<Option<Held>>,
    /// Views of Python and capsules that refer to the memory. Changed with the GIL.
    exports: AtomicUsize,
    /// Streams whose work uses the memory, if no pool has recorded the use.
    used_on: Mutex<Vec<KeptStream>>,
    pub(super) kind: Kind,
    device: ParentOnly<Device>,
}

/// Memory that is not closed, and the stack to which it returns.
struct Held {
    bytes: Bytes,
    stack: Arc<Opened>,
}

impl Whole {
    pub(super) fn new(bytes: Bytes, stack: Arc<Opened>) -> Self {
        Self {
            exports: AtomicUsize::new(0),
            used_on: Mutex::new(Vec::new()),
            kind: stack.kind,
            device: ParentOnly::new(stack.device.clone()),
            held: RwLock::new(Some(Held { bytes, stack })),
        }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the stack, unless the memory is closed.
    pub(super) fn stack(&self) -> Result<Arc<Opened>, Failure> {
        self.with_held(|held| Ok(Arc::clone(&held.stack)))
    }

    /// Calls `work` with the memory, which is not closed meanwhile.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Bytes) -> Result<T, Failure>) -> Result<T, Failure> {
        self.with_held(|held| work(&held.bytes))
    }

    fn with_held<T>(&self, work: impl FnOnce(&Held) -> Result<T, Failure>) -> Result<T, Failure> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked);
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        work(held.as_ref().ok_or(Failure::Closed("buffer"))?)
    }

    pub(super) fn check_open(&self) -> Result<(), Failure> {
        self.with(|_| Ok(()))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.held.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Counts an export, during which the memory cannot be closed.
    pub(super) fn begin_export(&self) {
        self.exports.fetch_add(1, Relaxed);
    }

    pub(super) fn end_export(&self) {
        self.exports.fetch_sub(1, Relaxed);
    }

    /// Records that work on a stream uses the memory: when the memory is freed, it is not reused before that work.
    pub(super) fn record_use(&self, stream: &Stream) -> Result<(), Failure> {
        self.with_held(|Held { bytes, stack }| {
            if bytes.stream().id() == stream.id() {
                return Ok(());
            }
            for pool in stack.layers().find_all::<PoolState>() {
                if with_bytes!(bytes, buffer => pool.record_use(buffer.block(), stream)).is_ok() {
                    return Ok(());
                }
            }
            let mut used_on = self.used_on.lock().unwrap_or_else(PoisonError::into_inner);
            if used_on.iter().all(|known| known.id() != stream.id()) {
                used_on.push(stream.keep());
            }
            Ok(())
        })
    }

    pub(super) fn set_stream(&self, stream: &Stream) -> Result<(), Failure> {
        let mut held = self.held.try_write().map_err(|_| busy_elsewhere())?;
        let held = held.as_mut().ok_or(Failure::Closed("buffer"))?;
        Ok(with_bytes!(&mut held.bytes, buffer => buffer.set_stream(stream))?)
    }

    /// Frees the memory on a stream, or on that of the buffer. Nothing happens if it is closed already.
    pub(super) fn close(&self, py: Python<'_>, stream: Option<&Stream>) -> Result<(), Failure> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked);
        }
        let exports = self.exports.load(Relaxed);
        if exports > 0 {
            let views = cumem::error::Plural(exports, "view");
            return Err(Failure::Busy(format!(
                "{views} of the buffer, such as an array or a tensor, can still be used; delete them first"
            )));
        }
        let Some(held) = self.held.try_write().map_err(|_| busy_elsewhere())?.take() else { return Ok(()) };
        let Held { mut bytes, stack } = held;
        let freed = py.detach(|| {
            let moved = match stream {
                Some(stream) => with_bytes!(&mut bytes, buffer => buffer.set_stream(stream)),
                None => Ok(()),
            };
            match moved {
                Ok(()) => self.free(bytes),
                Err(error) => Err(Unfreed::new(Some(bytes), error)),
            }
        });
        freed.map_err(|unfreed| {
            *self.held.write().unwrap_or_else(PoisonError::into_inner) =
                unfreed.bytes.map(|bytes| Held { bytes, stack });
            unfreed.reason
        })
    }

    fn free(&self, bytes: Bytes) -> Result<(), Box<Unfreed>> {
        let used_on = std::mem::take(&mut *self.used_on.lock().unwrap_or_else(PoisonError::into_inner));
        match used_on.iter().try_for_each(|used| order_after(bytes.stream(), used)) {
            Ok(()) => free(bytes),
            Err(error) => {
                *self.used_on.lock().unwrap_or_else(PoisonError::into_inner) = used_on;
                Err(Unfreed::new(Some(bytes), error))
            }
        }
    }
}

/// Makes `stream` wait for the work on a stream that may be destroyed. Then it waits for all work of the device.
fn order_after(stream: &Stream, used: &KeptStream) -> Result<(), DeviceError> {
    let event = Event::new(stream.device())?;
    match used.usable() {
        Some(used) => event.record(used)?,
        None => event.record_on_device()?,
    }
    stream.wait(&event)
}

fn busy_elsewhere() -> Failure {
    Failure::Busy("another thread uses the buffer".into())
}

impl Drop for Whole {
    fn drop(&mut self) {
        let Some(held) = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if cumem_c::rust::is_forked_child() {
            // The memory is the parent's.
            std::mem::forget(held);
            return;
        }
        let Held { bytes, stack } = held;
        let mut freed = Ok(());
        without_gil(|| {
            freed = self.free(bytes);
            drop(stack);
        });
        if let Err(unfreed) = freed {
            let Unfreed { bytes, reason } = *unfreed;
            // The memory stays live, and the stack counts it.
            std::mem::forget(bytes);
            Python::try_attach(|py| PyErr::from(reason).write_unraisable(py, None));
        }
    }
}
