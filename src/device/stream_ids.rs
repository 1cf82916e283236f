//! [`StreamId`], and the ids of default streams.
#![forbid(unsafe_code)]

use super::handle::Device;
use super::machine::Machine;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// A number that identifies a stream within the process. The number is never reused, while the driver reuses its
/// handles.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let (stream, other) = (Stream::new(&device)?, Stream::new(&device)?);
/// assert_eq!(stream.id(), stream.clone().id());
/// assert_ne!(stream.id(), other.id());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    pub(super) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the number.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// println!("work on stream {}", stream.id().as_u64());
    /// assert_eq!(stream.id().as_u64(), stream.clone().id().as_u64());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// The ids of the legacy default streams of a machine, by device.
pub(super) struct LegacyIds(Box<[OnceLock<StreamId>]>);

impl LegacyIds {
    fn new(devices: usize) -> Self {
        Self((0..devices).map(|_| OnceLock::new()).collect())
    }

    /// Returns the id of the legacy default stream of a device.
    pub(super) fn of(device: &Device) -> StreamId {
        let ids = device.machine().slots().get(|| Self::new(device.machine().devices()));
        *ids.0[device.ordinal() as usize].get_or_init(StreamId::unique)
    }
}

thread_local! {
    static PER_THREAD_IDS: RefCell<PerThreadIds> = RefCell::default();
}

/// The ids of the per-thread default streams of one thread, by machine and device.
#[derive(Default)]
pub(super) struct PerThreadIds {
    ids: Vec<(Weak<Machine>, u32, StreamId)>,
    ended: Ended,
}

/// Whether a thread has ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended(Arc<AtomicBool>);

impl Ended {
    pub(super) fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl PerThreadIds {
    /// Returns the id of the calling thread's default stream of a device, and the mark that is set when the thread
    /// ends.
    pub(super) fn current(device: &Device) -> (StreamId, Ended) {
        let found = PER_THREAD_IDS.try_with(|ids| {
            let mut ids = ids.borrow_mut();
            (ids.of(device), ids.ended.clone())
        });
        // While the thread ends, its table may already be dropped. A new number is correct then, because the thread can
        // no longer compare it with an earlier one.
        found.unwrap_or_else(|_| (StreamId::unique(), Ended(Arc::new(AtomicBool::new(true)))))
    }

    fn of(&mut self, device: &Device) -> StreamId {
        let known = |(machine, ordinal, _): &&(Weak<Machine>, u32, _)| {
            std::ptr::eq(machine.as_ptr(), Arc::as_ptr(device.machine())) && *ordinal == device.ordinal()
        };
        if let Some((.., id)) = self.ids.iter().find(known) {
            return *id;
        }
        self.ids.retain(|(machine, ..)| machine.strong_count() > 0);
        let id = StreamId::unique();
        self.ids.push((Arc::downgrade(device.machine()), device.ordinal(), id));
        id
    }
}

impl Drop for PerThreadIds {
    fn drop(&mut self) {
        self.ended.0.store(true, Ordering::Release);
    }
}
