//! [`Watch`]: an outermost layer that records the requests of a program.

use crate::figures::Shortage;
use crate::timeline::Timeline;
use cumem::kernel::HostKernel;
use cumem::{AllocError, Block, DeallocError, LayerExt, MemoryResource, Stream};
use cumem_adaptors::StatisticsState;
use cumem_adaptors::statistics::leaf_statistics;
use std::alloc::Layout;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most out-of-memory events that are kept.
const KEPT: usize = 100;

/// The record of a [`Watch`].
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) requests: u64,
    pub(crate) out_of_memory: Vec<Shortage>,
    pub(crate) out_of_memory_count: u64,
    pub(crate) timeline: Timeline,
}

/// Passes every call on, and records the allocations that run out of memory.
#[derive(Debug)]
pub(crate) struct Watch<R> {
    pub(crate) record: Arc<Mutex<Record>>,
    pub(crate) touches: bool,
    pub(crate) resource: R,
}

/// Locks the record.
pub(crate) fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: MemoryResource> Watch<R> {
    fn clock(&self) -> Duration {
        self.resource.device().simulator().map_or(Duration::ZERO, |simulator| simulator.clock())
    }

    fn note(&self, record: &mut Record) {
        let counters = self.resource.find_all::<StatisticsState>();
        let bytes = |counters: &StatisticsState| counters.counts().current_bytes.max(0) as u64;
        let requested = counters.first().map_or(0, |first| bytes(first));
        let reserved = leaf_statistics(&self.resource).into_iter().map(bytes).sum();
        record.timeline.add(self.clock(), requested, reserved);
    }

    fn refused(&self, record: &mut Record, bytes: usize, error: &AllocError) {
        record.out_of_memory_count += 1;
        if record.out_of_memory.len() < KEPT {
            let error = without_device_id(&error.report().to_string(), self.resource.device());
            let request = record.requests;
            record.out_of_memory.push(Shortage { request, line: None, bytes: bytes as u64, at: self.clock(), error });
        }
    }

    /// Enqueues a write of the block on the device. The kernel changes no byte; only the model sees the access.
    fn touch(&self, stream: &Stream, block: &Block) -> Result<(), AllocError> {
        if !self.touches || block.size() == 0 {
            return Ok(());
        }
        let kernel = HostKernel::new("first use", |_| ()).writes(block.addr(), block.size());
        // SAFETY: the block was just allocated on this stream, and the closure accesses no memory.
        unsafe { stream.launch_host(kernel) }.map_err(AllocError::from)
    }
}

/// Returns an error's text without the number of the simulator, so that the text is the same in every run.
pub(crate) fn without_device_id(text: &str, device: &cumem::Device) -> String {
    text.replace(&device.id().to_string(), "the device")
}

cumem::adaptor_layer! {
    impl[R: MemoryResource] Layer for Watch<R> {
        upstream: R = resource;
        describe = "watch";
    }
}

// SAFETY: every block is the resource's and is passed on unchanged.
unsafe impl<R: MemoryResource> MemoryResource for Watch<R> {
    type Kind = R::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let result = self.resource.allocate(stream, layout);
        let mut record = lock(&self.record);
        record.requests += 1;
        match &result {
            Ok(_) => self.note(&mut record),
            Err(error) if error.is_out_of_memory() => self.refused(&mut record, layout.size(), error),
            Err(_) => {}
        }
        drop(record);
        let block = result?;
        match self.touch(stream, &block) {
            Ok(()) => Ok(block),
            Err(error) => {
                // SAFETY: the block is the resource's, and no work uses it.
                let returned = unsafe { self.resource.deallocate(stream, block) };
                cumem::error::record_drop_error("a block that could not be touched", returned);
                Err(error)
            }
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the resource's.
        unsafe { self.resource.deallocate(stream, block) }?;
        self.note(&mut lock(&self.record));
        Ok(())
    }
}
