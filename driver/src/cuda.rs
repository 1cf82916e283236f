//! The implementation of [`Driver`] for the NVIDIA driver.
//!
//! Devices, primary contexts and the types of kernels are cust's. The module declares the driver's functions itself
//! where the error code matters, or where cust lacks the function.
//!
//! | module | contents |
//! |---|---|
//! | `sys` | the declarations of the driver's functions, and their result type |
//! | `state` | the loaded driver, its devices and contexts, and calls that not every driver has |
//! | `context` | making a device's context current, and restoring the previous one |
//! | `fork` | the error in a forked child |
//! | `attributes` | properties of a device |
//! | `streams` | streams and events |
//! | `graphs` | captures and graphs |
//! | `memory` | memory, copies, pointer attributes |
//! | `host_pages` | pinned memory of one NUMA node or of huge pages, registered memory, memory of the system |
//! | `pools` | stream-ordered pools |
//! | `mapping` | reserved addresses, and memory mapped at them |
//! | `unified` | prefetch, advice, discard, attachment, range attributes |
//! | `module` | PTX, kernels, launches |

mod attributes;
mod context;
mod fork;
mod graphs;
mod host_pages;
mod mapping;
mod memory;
mod module;
mod pools;
mod state;
mod streams;
mod sys;
mod unified;

pub use self::state::{CudaDriver, driver};
use crate::advice::Advice;
use crate::capture::{CaptureMode, CaptureState};
use crate::driver::Driver;
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
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::time::Duration;

impl Driver for CudaDriver {
    fn device_count(&self) -> u32 {
        self.devices.len() as u32
    }
    fn device_id(&self, d: u32) -> DeviceId {
        DeviceId::cuda(d)
    }
    fn attributes(&self, d: u32) -> Result<Attributes, DriverError> {
        self.on(d)?.attributes()
    }
    fn memory_info(&self, d: u32) -> Result<MemoryInfo, DriverError> {
        self.on(d)?.memory_info()
    }
    fn host_memory_info(&self, d: u32) -> Result<MemoryInfo, DriverError> {
        memory::host_memory()
            .ok_or(DriverError::NotSupported { what: "asking for host memory", device: self.device_id(d) })
    }
    fn synchronize_device(&self, d: u32) -> Result<(), DriverError> {
        self.on(d)?.synchronize()
    }

    fn create_stream(&self, d: u32, blocking: bool) -> Result<RawStream, DriverError> {
        self.on(d)?.create_stream(blocking)
    }
    fn create_stream_with_priority(&self, d: u32, blocking: bool, priority: i32) -> Result<RawStream, DriverError> {
        self.on(d)?.create_stream_with_priority(blocking, priority)
    }
    fn stream_priorities(&self, d: u32) -> Result<RangeInclusive<i32>, DriverError> {
        self.on(d)?.stream_priorities()
    }
    unsafe fn destroy_stream(&self, d: u32, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.destroy_stream(stream) }
    }
    unsafe fn synchronize_stream(&self, d: u32, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.synchronize_stream(stream) }
    }
    unsafe fn query_stream(&self, d: u32, stream: RawStream) -> Result<bool, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.query_stream(stream) }
    }
    unsafe fn stream_id(&self, d: u32, stream: RawStream) -> Result<u64, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.stream_id(stream) }
    }
    unsafe fn wait_event(&self, d: u32, stream: RawStream, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.wait_event(stream, event) }
    }

    fn create_event(&self, d: u32, timing: bool) -> Result<RawEvent, DriverError> {
        self.on(d)?.create_event(timing)
    }
    unsafe fn destroy_event(&self, d: u32, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.destroy_event(event) }
    }
    unsafe fn record_event(&self, d: u32, event: RawEvent, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.record_event(event, stream) }
    }
    unsafe fn record_event_on_device(&self, d: u32, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: this method has the same contract as the one that it calls.
        unsafe { self.on(d)?.record_event_on_device(event) }
    }
    unsafe fn query_event(&self, d: u32, event: RawEvent) -> Result<bool, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.query_event(event) }
    }
    unsafe fn synchronize_event(&self, d: u32, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.synchronize_event(event) }
    }
    unsafe fn elapsed(&self, d: u32, start: RawEvent, end: RawEvent) -> Result<Duration, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.elapsed(start, end) }
    }

    fn allocate_device(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        self.on(d)?.allocate_device(bytes)
    }
    fn allocate_managed(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        self.on(d)?.allocate_managed(bytes)
    }
    unsafe fn free(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.free(ptr) }
    }
    fn allocate_pinned(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        self.on(d)?.allocate_pinned(bytes)
    }
    unsafe fn free_pinned(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.free_pinned(ptr) }
    }

    fn allocate_pinned_pages(
        &self,
        d: u32,
        bytes: usize,
        properties: PinnedProperties,
    ) -> Result<NonNull<u8>, DriverError> {
        self.on(d)?.allocate_pinned_pages(bytes, properties)
    }
    unsafe fn free_pinned_pages(
        &self,
        d: u32,
        ptr: NonNull<u8>,
        bytes: usize,
        properties: PinnedProperties,
    ) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.free_pinned_pages(ptr, bytes, properties) }
    }
    unsafe fn register_host(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.register_host(ptr, bytes) }
    }
    unsafe fn unregister_host(&self, d: u32, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.unregister_host(ptr) }
    }
    fn allocate_system(&self, d: u32, layout: Layout) -> Result<NonNull<u8>, DriverError> {
        self.on(d)?.allocate_system(layout)
    }
    unsafe fn free_system(&self, d: u32, ptr: NonNull<u8>, layout: Layout) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.free_system(ptr, layout) };
        Ok(())
    }

    fn default_pool(&self, d: u32, memory: PoolMemory) -> Result<RawPool, DriverError> {
        self.on(d)?.default_pool(memory)
    }
    fn current_pool(&self, d: u32) -> Result<RawPool, DriverError> {
        self.on(d)?.current_pool()
    }
    fn create_pool(&self, d: u32, properties: &PoolProperties) -> Result<RawPool, DriverError> {
        self.on(d)?.create_pool(properties)
    }
    unsafe fn set_pool_reuse(&self, d: u32, pool: RawPool, reuse: PoolReuse, on: bool) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.set_pool_reuse(pool, reuse, on) }
    }
    unsafe fn pool_reuse(&self, d: u32, pool: RawPool, reuse: PoolReuse) -> Result<bool, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.pool_reuse(pool, reuse) }
    }
    unsafe fn set_pool_access(&self, d: u32, pool: RawPool, peer: u32) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.set_pool_access(pool, peer) }
    }
    unsafe fn destroy_pool(&self, d: u32, pool: RawPool) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.destroy_pool(pool) }
    }
    unsafe fn set_release_threshold(&self, d: u32, pool: RawPool, bytes: u64) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.set_release_threshold(pool, bytes) }
    }
    unsafe fn release_threshold(&self, d: u32, pool: RawPool) -> Result<u64, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.release_threshold(pool) }
    }
    unsafe fn pool_usage(&self, d: u32, pool: RawPool) -> Result<DriverPoolUsage, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.pool_usage(pool) }
    }
    unsafe fn trim_pool(&self, d: u32, pool: RawPool, keep: usize) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.trim_pool(pool, keep) }
    }
    unsafe fn allocate_async(
        &self,
        d: u32,
        pool: RawPool,
        bytes: usize,
        stream: RawStream,
    ) -> Result<NonNull<u8>, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.allocate_async(pool, bytes, stream) }
    }
    unsafe fn free_async(&self, d: u32, ptr: NonNull<u8>, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.free_async(ptr, stream) }
    }

    fn mapping_granularity(&self, d: u32) -> Result<usize, DriverError> {
        self.on(d)?.mapping_granularity()
    }
    fn reserve_addresses(&self, d: u32, bytes: usize) -> Result<NonNull<u8>, DriverError> {
        self.on(d)?.reserve_addresses(bytes)
    }
    unsafe fn release_addresses(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.release_addresses(ptr, bytes) }
    }
    unsafe fn map(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.map(ptr, bytes) }
    }
    unsafe fn map_again(&self, d: u32, ptr: NonNull<u8>, pieces: &[(NonNull<u8>, usize)]) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.map_again(ptr, pieces) }
    }
    fn can_access_peer(&self, d: u32, peer: u32) -> Result<bool, DriverError> {
        self.on(d)?.can_access_peer(peer)
    }
    unsafe fn set_access(&self, d: u32, ptr: NonNull<u8>, bytes: usize, peer: u32) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.set_access(ptr, bytes, peer) }
    }
    unsafe fn unmap(&self, d: u32, ptr: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.unmap(ptr, bytes) }
    }

    unsafe fn copy_async(
        &self,
        d: u32,
        dst: *mut u8,
        src: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.copy_async(dst, src, bytes, stream) }
    }
    unsafe fn fill_async(
        &self,
        d: u32,
        dst: *mut u8,
        value: u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.fill_async(dst, value, bytes, stream) }
    }
    unsafe fn fill_words_async(
        &self,
        d: u32,
        dst: *mut u8,
        word: u32,
        words: usize,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.fill_words_async(dst, word, words, stream) }
    }
    unsafe fn write_value(&self, d: u32, at: *mut u32, value: u32, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.write_value(at, value, stream) }
    }

    unsafe fn prefetch(
        &self,
        d: u32,
        ptr: *const u8,
        bytes: usize,
        to: Location,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.prefetch(ptr, bytes, to, stream) }
    }
    unsafe fn prefetch_batch(&self, d: u32, ranges: &[PrefetchRange], stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.prefetch_batch(ranges, stream) }
    }
    unsafe fn discard_batch(&self, d: u32, ranges: &[(u64, usize)], stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.discard_batch(ranges, stream) }
    }
    unsafe fn attach(
        &self,
        d: u32,
        ptr: *const u8,
        bytes: usize,
        to: StreamAttach,
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.attach(ptr, bytes, to, stream) }
    }
    unsafe fn advise(&self, d: u32, ptr: *const u8, bytes: usize, advice: Advice) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.advise(ptr, bytes, advice) }
    }
    fn range_attributes(&self, d: u32, ptr: *const u8, bytes: usize) -> Result<RangeAttributes, DriverError> {
        self.on(d)?.range_attributes(ptr, bytes)
    }
    fn pointer_info(&self, d: u32, ptr: *const u8) -> Result<PointerInfo, DriverError> {
        self.on(d)?.pointer_info(ptr)
    }
    fn host_access(&self, _d: u32, _ptr: *const u8, _bytes: usize, _write: bool) -> Result<(), DriverError> {
        // The driver migrates pages itself when the host touches them.
        Ok(())
    }

    unsafe fn begin_capture(&self, d: u32, stream: RawStream, mode: CaptureMode) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.begin_capture(stream, mode) }
    }
    unsafe fn end_capture(&self, d: u32, stream: RawStream) -> Result<RawGraph, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.end_capture(stream) }
    }
    unsafe fn capture_state(&self, d: u32, stream: RawStream) -> Result<CaptureState, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.capture_state(stream) }
    }
    unsafe fn destroy_graph(&self, d: u32, graph: RawGraph) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.destroy_graph(graph) }
    }
    unsafe fn instantiate_graph(&self, d: u32, graph: RawGraph) -> Result<RawGraphExec, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.instantiate_graph(graph) }
    }
    unsafe fn launch_graph(&self, d: u32, exec: RawGraphExec, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.launch_graph(exec, stream) }
    }
    unsafe fn destroy_graph_exec(&self, d: u32, exec: RawGraphExec) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.destroy_graph_exec(exec) }
    }

    unsafe fn load_module(&self, d: u32, image: ModuleImage<'_>) -> Result<RawModule, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.load_module(image) }
    }
    unsafe fn unload_module(&self, d: u32, module: RawModule) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.unload_module(module) }
    }
    unsafe fn function(&self, d: u32, module: RawModule, name: &str) -> Result<RawFunction, DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.function(module, name) }
    }
    unsafe fn launch(
        &self,
        d: u32,
        function: RawFunction,
        config: LaunchConfig,
        args: &[KernelArg],
        stream: RawStream,
    ) -> Result<(), DriverError> {
        // SAFETY: this method and the called method have the same contract.
        unsafe { self.on(d)?.launch(function, config, args, stream) }
    }
    unsafe fn launch_host(&self, d: u32, _kernel: HostKernel, _stream: RawStream) -> Result<(), DriverError> {
        Err(DriverError::NotSupported { what: "host kernels", device: DeviceId::cuda(d) })
    }
    fn model(&self) -> Option<&dyn Model> {
        None
    }
    fn extension(&self) -> &Extension {
        &self.extension
    }
}
