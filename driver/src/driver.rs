//! [`Driver`]: everything that the library asks of a driver, as one trait.

use crate::advice::Advice;
use crate::error::DriverError;
use crate::extension::Extension;
use crate::facts::{Attributes, DriverPoolUsage, MemoryInfo, PointerInfo};
use crate::host_kernel::HostKernel;
use crate::launch::{KernelArg, LaunchConfig};
use crate::location::{DeviceId, Location};
use crate::model::Model;
use crate::prefetch_range::PrefetchRange;
use crate::range_attributes::RangeAttributes;
use crate::raw::{RawEvent, RawFunction, RawModule, RawPool, RawStream};
use std::fmt::Debug;
use std::ptr::NonNull;
use std::time::Duration;

/// What the driver is asked to do.
///
/// Every method works on device `d` (an ordinal that exists) and leaves the calling thread's current
/// context as it found it, unless there was none. Sizes are never zero. Names in parentheses are the
/// driver calls, in which the contract of each is documented.
///
/// The unsafe methods share one contract: pointers name memory that stays valid, and is used by
/// nothing else in a conflicting way, until the stream has passed the operation; handles were returned
/// by this driver for this device and not destroyed.
pub trait Driver: Debug + Send + Sync {
    /// Its device numbers are `0..device_count`.
    fn device_count(&self) -> u32;
    /// The id of device `d`.
    fn device_id(&self, d: u32) -> DeviceId;
    /// The facts about a device (`cuDeviceGetAttribute`, `cuDeviceGetName`, `cuDeviceTotalMem`).
    fn attributes(&self, d: u32) -> Result<Attributes, DriverError>;
    /// Free and total memory (`cuMemGetInfo`).
    fn memory_info(&self, d: u32) -> Result<MemoryInfo, DriverError>;
    /// Free and total memory of the host that the device sees.
    fn host_memory_info(&self, d: u32) -> Result<MemoryInfo, DriverError>;
    /// Waits for all work of the device (`cuCtxSynchronize`).
    fn synchronize_device(&self, d: u32) -> Result<(), DriverError>;

    /// A new stream, which does not synchronise with the legacy default stream unless `blocking`
    /// (`cuStreamCreate`).
    fn create_stream(&self, d: u32, blocking: bool) -> Result<RawStream, DriverError>;
    /// Ends a stream; work on it still completes (`cuStreamDestroy`).
    unsafe fn destroy_stream(&self, d: u32, stream: RawStream) -> Result<(), DriverError>;
    /// Waits for a stream (`cuStreamSynchronize`).
    unsafe fn synchronize_stream(&self, d: u32, stream: RawStream) -> Result<(), DriverError>;
    /// Whether all work of a stream is done (`cuStreamQuery`).
    unsafe fn query_stream(&self, d: u32, stream: RawStream) -> Result<bool, DriverError>;
    /// Makes later work of `stream` wait for `event` (`cuStreamWaitEvent`).
    unsafe fn wait_event(&self, d: u32, stream: RawStream, event: RawEvent) -> Result<(), DriverError>;

    /// A new event, without timing unless `timing` (`cuEventCreate`).
    fn create_event(&self, d: u32, timing: bool) -> Result<RawEvent, DriverError>;
    /// Ends an event; waits for it that were enqueued stand (`cuEventDestroy`).
    unsafe fn destroy_event(&self, d: u32, event: RawEvent) -> Result<(), DriverError>;
    /// Marks the end of the work enqueued so far (`cuEventRecord`).
    unsafe fn record_event(&self, d: u32, event: RawEvent, stream: RawStream) -> Result<(), DriverError>;
    /// Whether the work before the last record is done (`cuEventQuery`).
    unsafe fn query_event(&self, d: u32, event: RawEvent) -> Result<bool, DriverError>;
    /// Waits for the work before the last record (`cuEventSynchronize`).
    unsafe fn synchronize_event(&self, d: u32, event: RawEvent) -> Result<(), DriverError>;
    /// Device time between two records (`cuEventElapsedTime`).
    unsafe fn elapsed(&self, d: u32, start: RawEvent, end: RawEvent) -> Result<Duration, DriverError>;

    /// Memory of the device (`cuMemAlloc`).
    fn allocate_device(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Unified memory, attached globally (`cuMemAllocManaged`).
    fn allocate_managed(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Frees what either of the two gave; waits for the work that uses it (`cuMemFree`).
    unsafe fn free(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError>;
    /// Page-locked host memory (`cuMemAllocHost`).
    fn allocate_pinned(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Frees page-locked host memory (`cuMemFreeHost`).
    unsafe fn free_pinned(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// The device's default stream-ordered pool (`cuDeviceGetDefaultMemPool`).
    fn default_pool(&self, d: u32) -> Result<RawPool, DriverError>;
    /// A new stream-ordered pool of device memory (`cuMemPoolCreate`).
    fn create_pool(&self, d: u32) -> Result<RawPool, DriverError>;
    /// Ends a pool (`cuMemPoolDestroy`).
    unsafe fn destroy_pool(&self, d: u32, pool: RawPool) -> Result<(), DriverError>;
    /// How much a pool keeps at a synchronisation (`CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`).
    unsafe fn set_release_threshold(&self, d: u32, pool: RawPool, bytes: u64) -> Result<(), DriverError>;
    /// The threshold in force.
    unsafe fn release_threshold(&self, d: u32, pool: RawPool) -> Result<u64, DriverError>;
    /// What the pool holds now.
    unsafe fn pool_usage(&self, d: u32, pool: RawPool) -> Result<DriverPoolUsage, DriverError>;
    /// Gives back all but `keep` bytes, as far as they are free (`cuMemPoolTrimTo`).
    unsafe fn trim_pool(&self, d: u32, pool: RawPool, keep: usize) -> Result<(), DriverError>;
    /// Memory of a pool, in stream order (`cuMemAllocFromPoolAsync`).
    unsafe fn allocate_async(
        &self,
        d: u32,
        pool: RawPool,
        bytes: usize,
        stream: RawStream,
    ) -> Result<NonNull<u8>, DriverError>;
    /// Gives it back, in stream order (`cuMemFreeAsync`).
    unsafe fn free_async(&self, d: u32, ptr: NonNull<u8>, stream: RawStream) -> Result<(), DriverError>;

    /// Bytes of the granules that memory can be mapped in (`cuMemGetAllocationGranularity`).
    fn mapping_granularity(&self, d: u32) -> Result<usize, DriverError>;
    /// Addresses without memory, at a multiple of the granularity; whole granules (`cuMemAddressReserve`).
    fn reserve_addresses(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError>;
    /// Gives reserved addresses back, all that one call gave; nothing is mapped there (`cuMemAddressFree`).
    unsafe fn release_addresses(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError>;
    /// Puts new memory of the device, for its use alone, behind reserved addresses: whole granules that have
    /// none. All of it or, on failure, nothing (`cuMemCreate`, `cuMemMap`, `cuMemSetAccess`).
    unsafe fn map(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError>;
    /// Puts memory that was mapped by whole calls of [`map`](Self::map), each given by its address and bytes, behind
    /// further reserved addresses that have none, from `ptr` on, end to end. All of it or, on failure, nothing
    /// (`cuMemRetainAllocationHandle`, `cuMemMap`, `cuMemSetAccess`).
    unsafe fn map_again(&self, d: u32, ptr: NonNull<u8>, pieces: &[(NonNull<u8>, usize)]) -> Result<(), DriverError>;
    /// Takes the memory of one or several whole calls of [`map`](Self::map) away and frees it, or of pieces that
    /// [`map_again`](Self::map_again) put there, which must be done first. The work that uses these addresses must
    /// have been waited for (`cuMemUnmap`).
    unsafe fn unmap(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError>;

    /// Copies between any two memories that the device or the driver can reach (`cuMemcpyAsync`).
    unsafe fn copy_async(
        &self,
        d: u32,
        dst: *mut u8,
        src: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Fills with a byte (`cuMemsetD8Async`).
    unsafe fn fill_async(
        &self,
        d: u32,
        dst: *mut u8,
        value: u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Writes a word of the device's memory, for others to see when the stream has come there
    /// (`cuStreamWriteValue32_v2`, CUDA 11.7).
    unsafe fn write_value(&self, d: u32, at: *mut u32, value: u32, stream: RawStream) -> Result<(), DriverError>;

    /// Moves the pages of a range, in stream order (`cuMemPrefetchAsync`).
    unsafe fn prefetch(
        &self,
        d: u32,
        ptr: *const u8,
        bytes: usize,
        to: Location,
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Moves the pages of several ranges, in stream order, in no order among themselves. Not on the legacy default
    /// stream (`cuMemPrefetchBatchAsync`).
    unsafe fn prefetch_batch(&self, d: u32, ranges: &[PrefetchRange], stream: RawStream) -> Result<(), DriverError>;
    /// Tells how a range will be used (`cuMemAdvise`).
    unsafe fn advise(&self, d: u32, ptr: *const u8, bytes: usize, advice: Advice) -> Result<(), DriverError>;
    /// What a range has been told (`cuMemRangeGetAttribute`).
    fn range_attributes(&self, d: u32, ptr: *const u8, bytes: usize) -> Result<RangeAttributes, DriverError>;
    /// What a pointer points to (`cuPointerGetAttributes`).
    fn pointer_info(&self, d: u32, ptr: *const u8) -> Result<PointerInfo, DriverError>;
    /// The host is about to touch a range. The work that must have ended has been waited for.
    fn host_access(&self, d: u32, ptr: *const u8, bytes: usize, write: bool) -> Result<(), DriverError>;

    /// Loads a module of PTX (`cuModuleLoadDataEx`).
    fn load_module(&self, d: u32, ptx: &str) -> Result<RawModule, DriverError>;
    /// Unloads it (`cuModuleUnload`).
    unsafe fn unload_module(&self, d: u32, module: RawModule) -> Result<(), DriverError>;
    /// A kernel by name (`cuModuleGetFunction`).
    unsafe fn function(&self, d: u32, module: RawModule, name: &str) -> Result<RawFunction, DriverError>;
    /// Launches a kernel (`cuLaunchKernel`).
    unsafe fn launch(
        &self,
        d: u32,
        function: RawFunction,
        config: LaunchConfig,
        args: &[KernelArg],
        stream: RawStream,
    ) -> Result<(), DriverError>;
    /// Enqueues work of the simulated device, done by the host.
    unsafe fn launch_host(&self, d: u32, kernel: HostKernel, stream: RawStream) -> Result<(), DriverError>;

    /// Returns what only a simulated machine offers; `None` for a GPU's driver.
    fn model(&self) -> Option<&dyn Model>;
    /// Returns the place where the library above keeps what it knows about this driver's machine.
    fn extension(&self) -> &Extension;
}
