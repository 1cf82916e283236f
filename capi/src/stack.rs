//! [`Stack`]: an open stack, and the streams of its callers.

use crate::failure::Failure;
use cumem::{Device, LayerExt, Stream};
use cumem_adaptors::{AnyStack, ByAddress, PoolState, ResourceExt, SpecError, StackSpec, StatisticsState};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) memory: ByAddress<AnyStack>,
    pub(crate) device: Device,
    /// Tells stacks apart that had the same place in memory.
    number: u64,
}

/// The stream that the thread used last. Most calls of a thread name one stream.
struct LastStream {
    stack: u64,
    handle: u64,
    stream: Stream,
}

thread_local! {
    static LAST: Cell<Option<LastStream>> = const { Cell::new(None) };
}

impl Stack {
    pub(crate) fn new(stack: AnyStack, device: &Device) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { memory: stack.by_address(), device: device.clone(), number: NEXT.fetch_add(1, Relaxed) }
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
        // Taken out while it is used, because `work` may lead to another call of this function.
        let last = LAST.try_with(Cell::take).ok().flatten();
        // SAFETY: the caller upholds the contract of this function: the stream exists.
        let is_named = |last: &LastStream| unsafe { last.stream.is_named(handle) };
        let last = match last {
            Some(last) if last.handle == handle && last.stack == self.number && is_named(&last) => last,
            // SAFETY: the caller upholds the contract of this function, which is the same.
            _ => unsafe { self.find_stream(handle) },
        };
        let result = work(&last.stream);
        // While the thread ends, its last stream may already be dropped. The next call then searches again.
        let _ = LAST.try_with(|kept| kept.set(Some(last)));
        result
    }

    #[cold]
    unsafe fn find_stream(&self, handle: u64) -> LastStream {
        // SAFETY: `with_stream`, whose contract is the same, is the only caller.
        let stream = unsafe { Stream::from_raw(&self.device, handle) };
        LastStream { stack: self.number, handle, stream }
    }
}

/// Forgets the stream that the calling thread used last, which keeps its device.
pub(crate) fn forget_stream() {
    let _ = LAST.try_with(Cell::take);
}
