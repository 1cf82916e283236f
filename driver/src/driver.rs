//! The [`Driver`] trait: every call that this library makes to a CUDA driver.
//!
//! The trait has two implementations. `cuda` calls the NVIDIA driver through cust. The crate cumem-sim is a model of
//! that driver on host memory and virtual time. All other code calls the trait and does not depend on the
//! implementation.

use crate::advice::Advice;
use crate::capture::{CaptureMode, CaptureState};
use crate::error::DriverError;
use crate::extension::Extension;
use crate::facts::{Attributes, DriverPoolUsage, MemoryInfo, PointerInfo};
use crate::host_kernel::HostKernel;
use crate::launch::{KernelArg, LaunchConfig};
use crate::location::{DeviceId, Location};
use crate::model::Model;
use crate::module_image::ModuleImage;
use crate::pinned::PinnedProperties;
use crate::pool::{PoolMemory, PoolProperties, PoolReuse};
use crate::prefetch_range::PrefetchRange;
use crate::range_attributes::RangeAttributes;
use crate::raw::{RawEvent, RawFunction, RawGraph, RawGraphExec, RawModule, RawPool, RawStream};
use crate::stream_attach::StreamAttach;
use std::alloc::Layout;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::time::Duration;

/// The operations of a CUDA driver.
///
/// The names in parentheses are the driver calls that a method makes. CUDA's documentation specifies each of them, and
/// each method returns the error code of its call. An operation that the device does not support is refused, with
/// [`DriverError::NotSupported`] or a code of the driver. If the installed driver lacks the call, the method returns
/// [`DriverError::MissingSymbol`].
///
/// Every method takes the ordinal `d` of an existing device. It leaves the calling thread's current context unchanged.
/// If the thread had no current context, the context of device `d` becomes and stays current. The caller never passes
/// zero bytes as the size of an allocation, a copy or a range.
///
/// # Safety of the methods
///
/// The `# Safety` sections use two terms:
///
/// - A handle is *live* on device `d` if this driver returned the handle for `d` and the handle has not been destroyed.
///   The default streams are always live.
/// - A range is *usable until the stream has passed* an operation if two conditions hold until the stream has
///   executed the operation: the memory stays allocated, and no other thread, stream or device makes a conflicting use
///   of the memory.
pub trait Driver: Debug + Send + Sync {
    /// Returns the number of devices. Their ordinals are `0..device_count`.
    fn device_count(&self) -> u32;
    /// Returns the id of device `d`.
    fn device_id(&self, d: u32) -> DeviceId;
    /// Returns the properties of the device (`cuDeviceGetAttribute`, `cuDeviceGetName`, `cuDeviceTotalMem`).
    fn attributes(&self, d: u32) -> Result<Attributes, DriverError>;
    /// Returns the free and total bytes of device memory (`cuMemGetInfo`).
    fn memory_info(&self, d: u32) -> Result<MemoryInfo, DriverError>;
    /// Returns the free and total bytes of host memory. The answer is the operating system's, because no driver call
    /// reports it; a simulated device answers from its profile.
    fn host_memory_info(&self, d: u32) -> Result<MemoryInfo, DriverError>;
    /// Blocks until all work of the device is done, and returns an error if that work failed (`cuCtxSynchronize`).
    fn synchronize_device(&self, d: u32) -> Result<(), DriverError>;

    /// Creates a stream (`cuStreamCreate`). It synchronizes with the legacy default stream only if `blocking` is true.
    fn create_stream(&self, d: u32, blocking: bool) -> Result<RawStream, DriverError>;
    /// Creates a stream with a priority (`cuStreamCreateWithPriority`). A priority outside of
    /// [`stream_priorities`](Self::stream_priorities) counts as the nearest one inside.
    fn create_stream_with_priority(&self, d: u32, blocking: bool, priority: i32) -> Result<RawStream, DriverError>;
    /// Returns the priorities of streams, from the greatest, which is the smallest number, to the least
    /// (`cuCtxGetStreamPriorityRange`).
    fn stream_priorities(&self, d: u32) -> Result<RangeInclusive<i32>, DriverError>;
    /// Destroys a stream (`cuStreamDestroy`). Work that was enqueued before still completes.
    ///
    /// # Safety
    ///
    /// `stream` was returned by [`create_stream`](Self::create_stream), is live on device `d`, and is not used
    /// afterwards.
    unsafe fn destroy_stream(&self, d: u32, stream: RawStream) -> Result<(), DriverError>;
    /// Blocks until all work enqueued on the stream is done (`cuStreamSynchronize`).
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`.
    unsafe fn synchronize_stream(&self, d: u32, stream: RawStream) -> Result<(), DriverError>;
    /// Reports whether all work enqueued on the stream is done (`cuStreamQuery`).
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`.
    unsafe fn query_stream(&self, d: u32, stream: RawStream) -> Result<bool, DriverError>;
    /// Returns a number that the driver gives to no other stream, while it reuses handles (`cuStreamGetId`, CUDA 12.0).
    /// Returns `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED` for a captured stream, whose capture goes on.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`.
    unsafe fn stream_id(&self, d: u32, stream: RawStream) -> Result<u64, DriverError>;
    /// Makes work that is enqueued on `stream` later wait for the last record of `event` (`cuStreamWaitEvent`). The
    /// call does nothing if the event was never recorded. The event may belong to another device.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`, and `event` is live on its device.
    unsafe fn wait_event(&self, d: u32, stream: RawStream, event: RawEvent) -> Result<(), DriverError>;

    /// Creates an event (`cuEventCreate`). It records times only if `timing` is true.
    fn create_event(&self, d: u32, timing: bool) -> Result<RawEvent, DriverError>;
    /// Destroys an event (`cuEventDestroy`). Earlier enqueued waits for the event remain in force.
    ///
    /// # Safety
    ///
    /// `event` is live, and is not used afterwards.
    unsafe fn destroy_event(&self, d: u32, event: RawEvent) -> Result<(), DriverError>;
    /// Records the event, which is reached when all work enqueued on `stream` so far is done (`cuEventRecord`). An
    /// event of another device is rejected.
    ///
    /// # Safety
    ///
    /// `event` and `stream` are live on device `d`.
    unsafe fn record_event(&self, d: u32, event: RawEvent, stream: RawStream) -> Result<(), DriverError>;
    /// Records the event: it is reached when all work enqueued on the device so far is done, on whichever stream
    /// (`cuCtxRecordEvent`, CUDA 12.5). The streams may have been destroyed in the meantime, and their threads may have
    /// ended. An event with timing or of another device is rejected.
    ///
    /// # Safety
    ///
    /// `event` is live on device `d`.
    unsafe fn record_event_on_device(&self, d: u32, event: RawEvent) -> Result<(), DriverError>;
    /// Reports whether the last record of the event is reached (`cuEventQuery`). Returns true if the event was never
    /// recorded.
    ///
    /// # Safety
    ///
    /// `event` is live.
    unsafe fn query_event(&self, d: u32, event: RawEvent) -> Result<bool, DriverError>;
    /// Blocks until the last record of the event is reached (`cuEventSynchronize`). Returns at once if the event was
    /// never recorded.
    ///
    /// # Safety
    ///
    /// `event` is live.
    unsafe fn synchronize_event(&self, d: u32, event: RawEvent) -> Result<(), DriverError>;
    /// Returns the device time from the record of `start` to that of `end` (`cuEventElapsedTime`), or zero if `end` was
    /// reached first. An event without timing or without a record is rejected, and so is one that is not reached yet.
    ///
    /// # Safety
    ///
    /// `start` and `end` are live.
    unsafe fn elapsed(&self, d: u32, start: RawEvent, end: RawEvent) -> Result<Duration, DriverError>;

    /// Allocates device memory (`cuMemAlloc`).
    fn allocate_device(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Allocates unified memory that is attached globally (`cuMemAllocManaged`). Refused on a device without managed
    /// memory.
    fn allocate_managed(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Frees memory that [`allocate_device`](Self::allocate_device) or [`allocate_managed`](Self::allocate_managed)
    /// returned, after waiting for enqueued work that uses the memory (`cuMemFree`).
    ///
    /// # Safety
    ///
    /// `ptr` was returned by one of these two methods and not freed. Only work that is already enqueued uses the
    /// memory.
    unsafe fn free(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError>;
    /// Allocates pinned host memory (`cuMemAllocHost`).
    fn allocate_pinned(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Frees pinned host memory (`cuMemFreeHost`).
    ///
    /// # Safety
    ///
    /// `ptr` was returned by [`allocate_pinned`](Self::allocate_pinned) and not freed, and nothing uses the memory any
    /// more, enqueued work included.
    unsafe fn free_pinned(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Allocates pinned host memory of one NUMA node, or of huge pages. The system allocates it (`mmap`, `mbind`,
    /// `madvise`), and the driver registers it (`cuMemHostRegister`). Returns whole pages. Refused if the device cannot
    /// access registered memory at its address.
    fn allocate_pinned_pages(
        &self,
        d: u32,
        bytes: usize,
        properties: PinnedProperties,
    ) -> Result<NonNull<u8>, DriverError>;
    /// Frees pinned host memory (`cuMemHostUnregister`, `munmap`). If the first call fails, the memory stays allocated.
    ///
    /// # Safety
    ///
    /// `ptr` was returned by [`allocate_pinned_pages`](Self::allocate_pinned_pages) for the same bytes and properties and
    /// not freed, and nothing uses the memory any more, enqueued work included.
    unsafe fn free_pinned_pages(
        &self,
        d: u32,
        ptr: NonNull<u8>,
        bytes: usize,
        properties: PinnedProperties,
    ) -> Result<(), DriverError>;
    /// Pins host memory of the program, so that devices can access it (`cuMemHostRegister`). Refused if the device cannot
    /// access registered memory at its address.
    ///
    /// # Safety
    ///
    /// The range is allocated, and stays allocated until [`unregister_host`](Self::unregister_host) has succeeded.
    unsafe fn register_host(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError>;
    /// Ends the registration of host memory (`cuMemHostUnregister`).
    ///
    /// # Safety
    ///
    /// `ptr` was passed to [`register_host`](Self::register_host), and no enqueued work uses the memory.
    unsafe fn unregister_host(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError>;
    /// Allocates zeroed memory of the system's allocator, for devices with pageable memory access (`calloc`). The driver
    /// does not know such memory: [`pointer_info`](Self::pointer_info) rejects it. Refused on other devices.
    fn allocate_system(&self, d: u32, layout: Layout) -> Result<NonNull<u8>, DriverError>;
    /// Frees memory of the system's allocator (`free`).
    ///
    /// # Safety
    ///
    /// `ptr` was returned by [`allocate_system`](Self::allocate_system) for this layout and not freed, and nothing uses
    /// the memory any more, enqueued work included.
    unsafe fn free_system(&self, d: u32, ptr: NonNull<u8>, layout: Layout) -> Result<(), DriverError>;

    /// Returns the default stream-ordered pool of the device for a type of memory (`cuDeviceGetDefaultMemPool`, or
    /// `cuMemGetDefaultMemPool` for memory other than the device's, CUDA 13.0). Refused if the device or the driver has no
    /// such pool.
    fn default_pool(&self, d: u32, memory: PoolMemory) -> Result<RawPool, DriverError>;
    /// Returns the device's current stream-ordered pool of device memory (`cuDeviceGetMemPool`): the default pool, unless
    /// a program has set another one.
    fn current_pool(&self, d: u32) -> Result<RawPool, DriverError>;
    /// Creates a stream-ordered pool (`cuMemPoolCreate`). The device can access the memory (for host memory through
    /// `cuMemPoolSetAccess`). Refused if the device or the driver has no such pools.
    fn create_pool(&self, d: u32, properties: &PoolProperties) -> Result<RawPool, DriverError>;
    /// Destroys a pool (`cuMemPoolDestroy`). Its live blocks stay valid, and the pool's memory is released after the
    /// last of them is freed. The default pool is rejected.
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`, and no memory is allocated from this pool afterwards.
    unsafe fn destroy_pool(&self, d: u32, pool: RawPool) -> Result<(), DriverError>;
    /// Sets the bytes of reserved memory that the pool keeps at a synchronization (`cuMemPoolSetAttribute`,
    /// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`).
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`.
    unsafe fn set_release_threshold(&self, d: u32, pool: RawPool, bytes: u64) -> Result<(), DriverError>;
    /// Returns the release threshold of the pool in bytes (`cuMemPoolGetAttribute`).
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`.
    unsafe fn release_threshold(&self, d: u32, pool: RawPool) -> Result<u64, DriverError>;
    /// Switches a way of reuse on or off (`cuMemPoolSetAttribute`).
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`.
    unsafe fn set_pool_reuse(&self, d: u32, pool: RawPool, reuse: PoolReuse, on: bool) -> Result<(), DriverError>;
    /// Reports whether a way of reuse is on (`cuMemPoolGetAttribute`).
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`.
    unsafe fn pool_reuse(&self, d: u32, pool: RawPool, reuse: PoolReuse) -> Result<bool, DriverError>;
    /// Lets another device access the memory of a pool, also that of live blocks (`cuMemPoolSetAccess`). Rejects a device
    /// without [peer access](Self::can_access_peer).
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`.
    unsafe fn set_pool_access(&self, d: u32, pool: RawPool, peer: u32) -> Result<(), DriverError>;
    /// Returns the bytes that the pool has reserved and those that are in live blocks (`cuMemPoolGetAttribute`).
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`.
    unsafe fn pool_usage(&self, d: u32, pool: RawPool) -> Result<DriverPoolUsage, DriverError>;
    /// Releases the pool's free memory to the device until at most `keep` bytes remain reserved (`cuMemPoolTrimTo`).
    /// Memory in live blocks is not released.
    ///
    /// # Safety
    ///
    /// `pool` is live on device `d`.
    unsafe fn trim_pool(&self, d: u32, pool: RawPool, keep: usize) -> Result<(), DriverError>;
    /// Allocates memory from a pool in stream order (`cuMemAllocFromPoolAsync`).
    ///
    /// # Safety
    ///
    /// `pool` and `stream` are live on device `d`. Work on other streams uses the memory only after waiting for this
    /// stream.
    unsafe fn allocate_async(
        &self,
        d: u32,
        pool: RawPool,
        bytes: usize,
        stream: RawStream,
    ) -> Result<NonNull<u8>, DriverError>;
    /// Frees memory in stream order (`cuMemFreeAsync`).
    ///
    /// # Safety
    ///
    /// `ptr` was returned by [`allocate_async`](Self::allocate_async) and not freed. `stream` is live on device `d`,
    /// and all uses of the memory come before this point of the stream.
    unsafe fn free_async(&self, d: u32, ptr: NonNull<u8>, stream: RawStream) -> Result<(), DriverError>;

    /// Returns the granularity of mappings in bytes (`cuMemGetAllocationGranularity`). Refused on a device without
    /// virtual memory management.
    fn mapping_granularity(&self, d: u32) -> Result<usize, DriverError>;
    /// Reserves addresses that have no memory behind them (`cuMemAddressReserve`). `bytes` is a multiple of the
    /// granularity, and so is the returned address.
    fn reserve_addresses(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Frees one whole reservation of addresses (`cuMemAddressFree`).
    ///
    /// # Safety
    ///
    /// The range is what one call of [`reserve_addresses`](Self::reserve_addresses) returned, and nothing is mapped in
    /// it.
    unsafe fn release_addresses(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError>;
    /// Allocates device memory and maps the memory at reserved addresses, accessible to device `d` only (`cuMemCreate`,
    /// `cuMemMap`, `cuMemSetAccess`). `ptr` and `bytes` are multiples of the granularity. A failed call maps
    /// nothing.
    ///
    /// # Safety
    ///
    /// The range lies in reserved addresses of device `d`, and nothing is mapped in the range.
    unsafe fn map(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError>;
    /// Maps memory that is mapped already at further reserved addresses (`cuMemRetainAllocationHandle`, `cuMemMap`,
    /// `cuMemSetAccess`). The pieces follow one another from `ptr` on. Each piece is the address and the bytes of one
    /// whole call of [`map`](Self::map). A failed call maps nothing.
    ///
    /// # Safety
    ///
    /// Each piece is mapped, and is what one call of `map` mapped. The target range lies in reserved addresses of
    /// device `d`, and nothing is mapped in the range.
    unsafe fn map_again(&self, d: u32, ptr: NonNull<u8>, pieces: &[(NonNull<u8>, usize)]) -> Result<(), DriverError>;
    /// Reports whether device `d` can access memory of device `peer` (`cuDeviceCanAccessPeer`). True for `d` itself.
    fn can_access_peer(&self, d: u32, peer: u32) -> Result<bool, DriverError>;
    /// Lets another device access mapped memory (`cuMemSetAccess`). Rejects a device without
    /// [peer access](Self::can_access_peer).
    ///
    /// # Safety
    ///
    /// The range is one or more whole calls of [`map`](Self::map) or pieces of [`map_again`](Self::map_again) on device
    /// `d`.
    unsafe fn set_access(&self, d: u32, ptr: NonNull<u8>, bytes: usize, peer: u32) -> Result<(), DriverError>;
    /// Removes mappings (`cuMemUnmap`). The range covers one or more whole calls of [`map`](Self::map), or one or more
    /// whole pieces of [`map_again`](Self::map_again). Unmapping a range of `map` frees its memory; the further
    /// mappings of that memory have to be removed first.
    ///
    /// # Safety
    ///
    /// The range is such a range, and nothing uses its addresses any more. The work that used them has been waited for.
    unsafe fn unmap(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError>;

    /// Copies bytes in stream order (`cuMemcpyAsync`). Source and destination are any memory that the device or the
    /// driver can reach.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. Both ranges are usable until the stream has passed the copy.
    unsafe fn copy_async(
        &self,
        d: u32,
        dst: *mut u8,
        src: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Sets every byte of a range of device, unified or pinned memory to `value`, in stream order (`cuMemsetD8Async`).
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. The range is usable until the stream has passed the fill.
    unsafe fn fill_async(
        &self,
        d: u32,
        dst: *mut u8,
        value: u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Sets each of `words` 32-bit words of device, unified or pinned memory to `word`, in stream order
    /// (`cuMemsetD32Async`). Rejects an address that is not a multiple of 4.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. The range is usable until the stream has passed the fill.
    unsafe fn fill_words_async(
        &self,
        d: u32,
        dst: *mut u8,
        word: u32,
        words: usize,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Writes a 32-bit word of device memory in stream order (`cuStreamWriteValue32_v2`, CUDA 11.7). A running kernel
    /// can poll the word. Refused on a simulated device, which runs no such kernels.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. The word is aligned, stays allocated, and is written by nothing else until the
    /// stream has passed the write.
    unsafe fn write_value(&self, d: u32, at: *mut u32, value: u32, stream: RawStream) -> Result<(), DriverError>;

    /// Migrates the pages of a range of unified memory to a location, in stream order (`cuMemPrefetchAsync`). Rejects a
    /// range that is not unified memory, and a device without concurrent managed access.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. The range stays allocated until the stream has passed the prefetch.
    unsafe fn prefetch(
        &self,
        d: u32,
        ptr: *const u8,
        bytes: usize,
        to: Location,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Migrates the pages of several ranges in stream order, in no specified order among the ranges
    /// (`cuMemPrefetchBatchAsync`, CUDA 13.0). Rejects the legacy default stream, and what [`prefetch`](Self::prefetch)
    /// rejects.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. The ranges stay allocated until the stream has passed the prefetch.
    unsafe fn prefetch_batch(&self, d: u32, ranges: &[PrefetchRange], stream: RawStream) -> Result<(), DriverError>;
    /// Discards the contents of ranges of managed memory in stream order (`cuMemDiscardBatchAsync`, CUDA 13.0): the driver
    /// need not copy them any more. Until it is written or prefetched, a discarded byte has an unspecified value, which may
    /// differ between two reads. Rejects the legacy default stream, and machines of which a device has no concurrent managed
    /// access.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. The ranges are usable until the stream has passed the discard, and no byte is read
    /// before it is written.
    unsafe fn discard_batch(&self, d: u32, ranges: &[(u64, usize)], stream: RawStream) -> Result<(), DriverError>;
    /// Decides which processors may access a whole allocation of managed memory (`cuStreamAttachMemAsync`), in stream
    /// order. Rejects the default streams for [`StreamAttach::Single`].
    ///
    /// # Safety
    ///
    /// - `stream` is live on device `d`. `ptr` and `bytes` are a whole allocation, which stays allocated until the stream
    ///   has passed the call.
    /// - Afterwards only these processors access the memory.
    unsafe fn attach(
        &self,
        d: u32,
        ptr: *const u8,
        bytes: usize,
        to: StreamAttach,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Advises the driver how a range of unified memory will be used (`cuMemAdvise`). Rejects a range that is not
    /// unified memory, and a location whose device has no concurrent managed access.
    ///
    /// # Safety
    ///
    /// The range is allocated.
    unsafe fn advise(&self, d: u32, ptr: *const u8, bytes: usize, advice: Advice) -> Result<(), DriverError>;
    /// Returns the advice and the last prefetch that hold for every page of a range (`cuMemRangeGetAttribute`). Rejects
    /// a range that is not unified memory.
    fn range_attributes(&self, d: u32, ptr: *const u8, bytes: usize) -> Result<RangeAttributes, DriverError>;
    /// Returns the type and the device of the memory that a pointer points to (`cuPointerGetAttributes`). Rejects
    /// memory that the driver does not know.
    fn pointer_info(&self, d: u32, ptr: *const u8) -> Result<PointerInfo, DriverError>;
    /// Announces that the host is about to read a range or, if `write` is true, to write a range. The caller
    /// has waited for the work that must come before. The NVIDIA driver needs no such call, because pages migrate when
    /// the host touches them. A simulated device migrates the pages here, and rejects an access that would crash a real
    /// process.
    fn host_access(&self, d: u32, ptr: *const u8, bytes: usize, write: bool) -> Result<(), DriverError>;

    /// Begins to capture a stream (`cuStreamBeginCapture`). Until [`end_capture`](Self::end_capture), work that is enqueued
    /// on the stream becomes part of a graph and is not executed. A stream that waits for an event of a captured stream
    /// is captured, too. What is refused meanwhile, and ends the capture with an error: waiting for a captured stream, for
    /// one of its events or for the device; making a captured stream wait for an event from outside of the capture;
    /// prefetches on it; recording an event on the device.
    ///
    /// # Safety
    ///
    /// - `stream` is live on device `d`.
    /// - Until the graph is launched, the caller relies on no result of the captured work.
    unsafe fn begin_capture(&self, d: u32, stream: RawStream, mode: CaptureMode) -> Result<(), DriverError>;
    /// Ends the capture that was begun on this stream, and returns the graph (`cuStreamEndCapture`). If the capture was
    /// invalidated, or if captured work of another stream was not joined, the call fails and the stream is not captured
    /// any more.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`.
    unsafe fn end_capture(&self, d: u32, stream: RawStream) -> Result<RawGraph, DriverError>;
    /// Returns whether a stream is being captured (`cuStreamGetCaptureInfo`).
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`.
    unsafe fn capture_state(&self, d: u32, stream: RawStream) -> Result<CaptureState, DriverError>;
    /// Destroys a graph (`cuGraphDestroy`). Executable graphs that were made of it stay valid.
    ///
    /// # Safety
    ///
    /// `graph` is live, and is not used afterwards.
    unsafe fn destroy_graph(&self, d: u32, graph: RawGraph) -> Result<(), DriverError>;
    /// Makes an executable graph of a graph (`cuGraphInstantiateWithFlags`).
    ///
    /// # Safety
    ///
    /// `graph` is live on device `d`.
    unsafe fn instantiate_graph(&self, d: u32, graph: RawGraph) -> Result<RawGraphExec, DriverError>;
    /// Launches an executable graph in stream order (`cuGraphLaunch`). Launches of one graph run one after the other.
    ///
    /// # Safety
    ///
    /// - `exec` and `stream` are live on device `d`.
    /// - All memory that the captured work uses is usable until the stream has passed the launch.
    unsafe fn launch_graph(&self, d: u32, exec: RawGraphExec, stream: RawStream) -> Result<(), DriverError>;
    /// Destroys an executable graph (`cuGraphExecDestroy`). Launches that were enqueued before still complete.
    ///
    /// # Safety
    ///
    /// `exec` is live, and is not used afterwards.
    unsafe fn destroy_graph_exec(&self, d: u32, exec: RawGraphExec) -> Result<(), DriverError>;

    /// Loads a module, and compiles it before if it is PTX (`cuModuleLoadDataEx`). Refused on a simulated device.
    ///
    /// # Safety
    ///
    /// A [`ModuleImage::Binary`] is a whole cubin or fat binary. The driver takes its size from its headers.
    unsafe fn load_module(&self, d: u32, image: ModuleImage<'_>) -> Result<RawModule, DriverError>;
    /// Unloads a module (`cuModuleUnload`).
    ///
    /// # Safety
    ///
    /// `module` is live on device `d`. It and its functions are not used afterwards, and none of its kernels is still
    /// to run.
    unsafe fn unload_module(&self, d: u32, module: RawModule) -> Result<(), DriverError>;
    /// Returns the kernel called `name` (`cuModuleGetFunction`), or `CUDA_ERROR_NOT_FOUND` if the module has none.
    ///
    /// # Safety
    ///
    /// `module` is live on device `d`.
    unsafe fn function(&self, d: u32, module: RawModule, name: &str) -> Result<RawFunction, DriverError>;
    /// Launches a kernel in stream order (`cuLaunchKernel`).
    ///
    /// # Safety
    ///
    /// - `stream` is live on device `d`, and the module of `function` stays loaded until the stream has passed the
    ///   kernel.
    /// - `args` matches the parameters of the kernel in number and type.
    /// - All memory that the kernel uses is usable until the stream has passed the kernel.
    unsafe fn launch(
        &self,
        d: u32,
        function: RawFunction,
        config: LaunchConfig,
        args: &[KernelArg],
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Enqueues a host kernel: Rust code that the simulated device runs on the host when the stream reaches the kernel.
    /// Refused on a real device.
    ///
    /// # Safety
    ///
    /// `stream` is live on device `d`. The ranges that the kernel declares are usable until the stream has passed the
    /// kernel.
    unsafe fn launch_host(&self, d: u32, kernel: HostKernel, stream: RawStream) -> Result<(), DriverError>;

    /// Returns the additional calls of a simulated machine, or `None` for the NVIDIA driver.
    fn model(&self) -> Option<&dyn Model>;
    /// Returns the value that the library above stores with this driver.
    fn extension(&self) -> &Extension;
}
