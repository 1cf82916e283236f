//! [`Stack`]: an open stack, and the streams of its callers.

use crate::failure::Failure;
use cumem::device::{StreamId, StreamName};
use cumem::{Device, LayerExt, Stream};
use cumem_adaptors::{AnyStack, ByAddress, PoolState, ResourceExt, SpecError, StackSpec, StatisticsState};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) memory: ByAddress<AnyStack>,
    pub(crate) device: Device,
    /// The legacy default stream, which a thread finds without a look at its own state.
    legacy: StreamId,
    /// Tells stacks apart that had the same place in memory.
    number: u64,
}

/// The handles up to this one are those of the legacy default stream.
const LEGACY: u64 = 1;
/// The handles up to this one are those of the default streams, which always exist.
const DEFAULT_STREAMS: u64 = 2;

/// The stream that the thread used last. Most calls of a thread name one stream.
struct LastStream {
    stack: u64,
    handle: u64,
    stream: Stream,
}

/// The same, without the stream.
#[derive(Clone, Copy)]
struct LastName {
    stack: u64,
    name: StreamName,
}

thread_local! {
    static NAME: Cell<Option<LastName>> = const { Cell::new(None) };
    static LAST: RefCell<Option<LastStream>> = const { RefCell::new(None) };
}

impl Stack {
    pub(crate) fn new(stack: AnyStack, device: &Device) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (memory, legacy) = (stack.by_address(), Stream::legacy_default(device).id());
        Self { memory, device: device.clone(), legacy, number: NEXT.fetch_add(1, Relaxed) }
    }

    /// Builds the stack of a text. A stack whose blocks are not all of one pool gets statistics, so that every stack counts.
    pub(crate) fn build(spec: &StackSpec, device: &Device) -> Result<Self, SpecError> {
        let mut built = spec.build(device)?;
        let one_pool = built.find_all::<PoolState>().len() == 1 && !matches!(built, AnyStack::OverEither(_));
        if !one_pool && built.find::<StatisticsState>().is_none() {
            built = spec.clone().with_statistics_between().build(device)?;
        }
        Ok(Self::new(built, device))
    }

    /// Returns the id of the stream of a handle, if the calling thread knows it without a search.
    ///
    /// # Safety
    ///
    /// The caller must ensure that `handle` is a stream of the stack's device that exists, or a default stream.
    #[inline]
    pub(crate) unsafe fn known_id(&self, handle: *mut c_void) -> Option<StreamId> {
        let handle = handle.addr() as u64;
        if handle <= LEGACY {
            return Some(self.legacy);
        }
        let LastName { stack, name } = NAME.get()?;
        // SAFETY: the caller ensures that the stream exists. The calling thread has stored the name.
        (stack == self.number && unsafe { name.is_of(&self.device, handle) }).then(|| name.id())
    }

    /// Calls `work` with the stream of a handle.
    ///
    /// # Safety
    ///
    /// The caller must uphold the contract of [`Stream::from_raw`] for as long as the stack is open.
    #[inline]
    pub(crate) unsafe fn with_stream<T>(
        &self,
        handle: *mut c_void,
        work: impl FnOnce(&Stream) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let handle = handle.addr() as u64;
        let mut work = Some(work);
        let done = LAST.try_with(|last| {
            let last = last.try_borrow().ok()?;
            let known = last.as_ref()?;
            // SAFETY: the caller upholds the contract of this function: the stream exists.
            let is_named = || handle <= DEFAULT_STREAMS || unsafe { known.stream.is_named(handle) };
            if known.handle != handle || known.stack != self.number || !is_named() {
                return None;
            }
            Some(work.take()?(&known.stream))
        });
        // While the thread ends, its last stream may already be dropped.
        match (done.ok().flatten(), work) {
            (Some(result), _) => result,
            // SAFETY: the caller upholds the contract of this function, which is the same.
            (None, Some(work)) => work(&unsafe { self.find_stream(handle) }),
            (None, None) => unreachable!("the work is done only once"),
        }
    }

    /// Returns the stream of a handle, and remembers it unless a caller further up uses the one that is remembered.
    ///
    /// # Safety
    ///
    /// As [`with_stream`](Self::with_stream).
    #[cold]
    unsafe fn find_stream(&self, handle: u64) -> Stream {
        // SAFETY: the caller upholds the contract, which is the same.
        let stream = unsafe { Stream::from_raw(&self.device, handle) };
        NAME.set(Some(LastName { stack: self.number, name: stream.name() }));
        let found = LastStream { stack: self.number, handle, stream: stream.clone() };
        let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| last.replace(found)));
        stream
    }
}

/// Forgets the stream that the calling thread used last, which keeps its device.
pub(crate) fn forget_stream() {
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| last.take()));
}
