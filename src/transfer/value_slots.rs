//! [`ValueSlots`]: pinned memory through which single values travel in stream order, while the host does not wait.

use super::enqueue::{enqueue_copy, wait_for_stream};
use super::request::Ends;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::drop_error::record_drop_error;
use cumem_driver::owned::{OwnedEvent, OwnedPinnedMemory, RawDevice};
use cumem_driver::{CaptureState, DriverError};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a slot.
pub(crate) const VALUE_SLOT: usize = 1 << 10;
/// Slots that a device keeps. All of them are in one pinned allocation, because each such allocation takes about a
/// millisecond.
const SLOTS: usize = 64;

/// The slots of a device. Each is created at its first use. The allocation exists from the first use on.
pub(crate) struct ValueSlots {
    device: RawDevice,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    page: Option<Page>,
    idle: Vec<Slot>,
    /// Slots that the device may still use, in the order in which their copies were enqueued.
    busy: VecDeque<Slot>,
}

/// The pinned allocation, and the offsets of the slots that were not created yet.
struct Page {
    memory: Arc<OwnedPinnedMemory>,
    unused: Vec<usize>,
}

/// Pinned memory for one value, and the event after the last copy that uses it.
struct Slot {
    memory: Arc<OwnedPinnedMemory>,
    offset: usize,
    bytes: usize,
    done: OwnedEvent,
}

impl Slot {
    fn start(&self) -> *mut u8 {
        self.memory.at(self.offset)
    }
}

/// Bytes that a stream copies from the device to a slot. The slot is used again after the copy is done.
pub(crate) struct PendingBytes {
    /// `None` if there are no bytes.
    slot: Option<Slot>,
    bytes: usize,
    slots: Arc<ValueSlots>,
}

impl ValueSlots {
    pub(super) fn new(device: &RawDevice) -> Self {
        Self { device: device.clone(), state: Mutex::default() }
    }

    /// Enqueues a copy to `to` of the bytes that `write` writes. The caller's bytes are not used after the return.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `bytes` bytes, and nothing uses it in a conflicting way, until `stream` has passed
    /// the copy.
    pub(crate) unsafe fn upload(
        &self,
        to: *mut u8,
        bytes: usize,
        write: impl FnOnce(&mut [u8]),
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        refuse_captured(stream)?;
        let slot = self.take(bytes)?;
        // SAFETY: the slot has this many bytes of host memory, which the driver populated. No work uses the slot, and
        // no other thread has it.
        write(unsafe { std::slice::from_raw_parts_mut(slot.start(), bytes) });
        // SAFETY: the caller ensures that `to` is valid. The slot is not used again before its event.
        unsafe { self.copy(slot, |slot| Ends { to, from: slot, bytes }, stream) }.map(|slot| self.retire(slot))
    }

    /// Enqueues a copy of `bytes` bytes from `from`.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of `bytes` bytes, and nothing uses it in a conflicting way, until `stream` has passed
    /// the copy.
    pub(crate) unsafe fn download(
        self: &Arc<Self>,
        from: *const u8,
        bytes: usize,
        stream: &Stream,
    ) -> Result<PendingBytes, DeviceError> {
        refuse_captured(stream)?;
        let slot = self.take(bytes)?;
        // SAFETY: the caller ensures that `from` is valid. The slot is not used again before its event.
        let slot = unsafe { self.copy(slot, |slot| Ends { to: slot, from, bytes }, stream) }?;
        Ok(PendingBytes { slot: Some(slot), bytes, slots: Arc::clone(self) })
    }

    /// Enqueues a copy, and records the slot's event. If the event cannot be recorded, the host waits for the copy.
    ///
    /// # Safety
    ///
    /// Both ends are valid, and nothing uses them in a conflicting way, until `stream` has passed the copy.
    unsafe fn copy(
        &self,
        slot: Slot,
        ends: impl FnOnce(*mut u8) -> Ends,
        stream: &Stream,
    ) -> Result<Slot, DeviceError> {
        let enqueue = || {
            let raw = stream.raw()?;
            // SAFETY: the caller keeps the contract, and `raw` is the handle of `stream`.
            unsafe { enqueue_copy(ends(slot.start()), raw, stream) }?;
            // SAFETY: `raw` is a live stream of the slot's device.
            unsafe { slot.done.record(raw) }.or_else(|_| wait_for_stream(stream))
        };
        match enqueue() {
            Ok(()) => Ok(slot),
            // Either no copy was enqueued, or `wait_for_stream` has ended it.
            Err(error) => {
                self.give_back(slot);
                Err(error)
            }
        }
    }

    /// Returns a slot of at least `bytes` bytes that no work uses.
    ///
    /// If all slots that the device keeps are in use, it waits for the oldest copy. A value that is larger than a slot
    /// gets an allocation of its own.
    fn take(&self, bytes: usize) -> Result<Slot, DeviceError> {
        if bytes > VALUE_SLOT {
            return self.create(Arc::new(OwnedPinnedMemory::new(&self.device, bytes)?), 0, bytes);
        }
        if let Some(slot) = self.finished()? {
            return Ok(slot);
        }
        if let Some(slot) = self.unused()? {
            return Ok(slot);
        }
        let oldest = self.lock().busy.pop_front();
        match oldest {
            Some(slot) => self.unless(slot.done.synchronize(), slot),
            None => self.create(Arc::new(OwnedPinnedMemory::new(&self.device, VALUE_SLOT)?), 0, VALUE_SLOT),
        }
    }

    /// Returns an idle slot, or the oldest busy one if its copy is done.
    fn finished(&self) -> Result<Option<Slot>, DeviceError> {
        loop {
            let oldest = {
                let mut state = self.lock();
                if let Some(slot) = state.idle.pop() {
                    return Ok(Some(slot));
                }
                state.busy.pop_front()
            };
            // The driver is not called under the lock, because a simulated device may run the closures of kernels.
            let Some(slot) = oldest else { return Ok(None) };
            match slot.done.is_done() {
                Ok(true) if slot.bytes > VALUE_SLOT => drop(slot),
                Ok(true) => return Ok(Some(slot)),
                answer => {
                    self.lock().busy.push_front(slot);
                    return Ok(answer.map(|_| None)?);
                }
            }
        }
    }

    /// Returns `slot`, or makes it the oldest busy one again if the driver returned an error about its event.
    fn unless(&self, waited: Result<(), DriverError>, slot: Slot) -> Result<Slot, DeviceError> {
        match waited {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.lock().busy.push_front(slot);
                Err(error.into())
            }
        }
    }

    /// Creates the next slot of the pinned allocation, or returns `None` if all of them were created.
    fn unused(&self) -> Result<Option<Slot>, DeviceError> {
        if self.lock().page.is_none() {
            let memory = Arc::new(OwnedPinnedMemory::new(&self.device, SLOTS * VALUE_SLOT)?);
            let unused = (0..SLOTS).map(|slot| slot * VALUE_SLOT).collect();
            self.lock().page.get_or_insert(Page { memory, unused });
        }
        let next = |page: &mut Page| Some((Arc::clone(&page.memory), page.unused.pop()?));
        let Some((memory, offset)) = self.lock().page.as_mut().and_then(next) else { return Ok(None) };
        let created = self.create(Arc::clone(&memory), offset, VALUE_SLOT);
        if created.is_err()
            && let Some(page) = self.lock().page.as_mut().filter(|page| Arc::ptr_eq(&page.memory, &memory))
        {
            page.unused.push(offset);
        }
        created.map(Some)
    }

    fn create(&self, memory: Arc<OwnedPinnedMemory>, offset: usize, bytes: usize) -> Result<Slot, DeviceError> {
        Ok(Slot { memory, offset, bytes, done: OwnedEvent::new(&self.device, false)? })
    }

    /// Keeps a slot until its copy is done.
    fn retire(&self, slot: Slot) {
        self.lock().busy.push_back(slot);
    }

    /// Keeps a slot that no work uses.
    fn give_back(&self, slot: Slot) {
        if slot.bytes == VALUE_SLOT {
            self.lock().idle.push(slot);
        }
    }

    /// Frees all memory that no copy uses. The pinned allocation is freed with its last slot.
    pub(super) fn trim(&self) {
        let state = std::mem::take(&mut *self.lock());
        let busy = state.busy.into_iter().filter(|slot| !matches!(slot.done.is_done(), Ok(true)));
        let busy: Vec<Slot> = busy.collect();
        self.lock().busy.extend(busy);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a captured stream. Each launch of the graph would use the slot, which has other values by then.
fn refuse_captured(stream: &Stream) -> Result<(), DeviceError> {
    match stream.capture_state()? {
        CaptureState::None => Ok(()),
        CaptureState::Active { .. } | CaptureState::Invalidated => {
            let what = "a copy of a single value on a captured stream";
            Err(DriverError::NotSupported { what, device: stream.device_id() }.into())
        }
    }
}

impl Drop for ValueSlots {
    /// Waits for the copies, because the driver frees pinned memory without a wait.
    fn drop(&mut self) {
        for slot in self.state.get_mut().unwrap_or_else(PoisonError::into_inner).busy.drain(..) {
            let device = |_| self.device.driver().synchronize_device(self.device.ordinal());
            record_drop_error("a value that is copied", slot.done.synchronize().or_else(device));
        }
    }
}

impl PendingBytes {
    /// Returns the result of a copy of no bytes.
    pub(crate) fn nothing(slots: &Arc<ValueSlots>) -> Self {
        Self { slot: None, bytes: 0, slots: Arc::clone(slots) }
    }

    /// Reports whether the copy is done.
    pub(crate) fn is_done(&self) -> Result<bool, DriverError> {
        self.slot.as_ref().map_or(Ok(true), |slot| slot.done.is_done())
    }

    /// Waits for the copy, and passes the bytes to `read`.
    pub(crate) fn wait<T>(mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T, DriverError> {
        let Some(slot) = &self.slot else { return Ok(read(&[])) };
        slot.done.synchronize()?;
        // SAFETY: the slot has this many bytes, which the copy has written. Nothing else uses the slot.
        let value = read(unsafe { std::slice::from_raw_parts(slot.start(), self.bytes) });
        if let Some(slot) = self.slot.take() {
            self.slots.give_back(slot);
        }
        Ok(value)
    }
}

impl Drop for PendingBytes {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.slots.retire(slot);
        }
    }
}
