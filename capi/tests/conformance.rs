//! The conformance suite over stacks whose memory is allocated and freed through the exported functions.

mod common;

use common::Opened;
use cumem::error::{DeallocReason, DriverError};
use cumem::resource::MakerId;
use cumem::sim::Profile;
use cumem::{AllocError, AnyResource, Block, DeallocError, Device, LayerExt, MemoryResource, Stream, kind};
use cumem_adaptors::{AnyStack, StackSpec};
use cumem_c::{CumemError, CumemStatus};
use cumem_conformance::{Expectations, conformance};
use std::alloc::Layout;
use std::error::Error;
use std::ffi::c_void;
use std::ptr::{NonNull, without_provenance_mut};

/// Makes its own blocks of the memory of an open stack.
struct ThroughC<U> {
    maker: MakerId,
    opened: Opened,
    upstream: U,
}

impl ThroughC<AnyResource<kind::Device>> {
    fn new(text: &str, device: &Device) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let stack = StackSpec::parse(text)?.build(device)?;
        let AnyStack::OverDevice(upstream) = stack.clone() else { return Err("not of device memory".into()) };
        Ok(Self { maker: MakerId::unique(), opened: Opened(cumem_c::open_any(stack)), upstream })
    }

    /// Returns the handle that a C program would pass. The functions cannot detect a stream of another device.
    fn raw(&self, stream: &Stream) -> Result<*mut c_void, cumem::DeviceError> {
        self.device().check_device("the stream", stream.device_id())?;
        Ok(without_provenance_mut(stream.as_raw() as usize))
    }

    fn refused(&self, what: &'static str) -> DriverError {
        DriverError::NotSupported { what, device: self.device().id() }
    }
}

cumem::adaptor_layer! {
    impl[U] Layer for ThroughC<U> {
        upstream: U = upstream;
        describe = "through C";
    }
}

// SAFETY: every block is memory of the open stack, which keeps it until the block is freed.
unsafe impl MemoryResource for ThroughC<AnyResource<kind::Device>> {
    type Kind = kind::Device;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let raw = self.raw(stream)?;
        if layout.size() == 0 {
            return Ok(Block::empty(self.maker, layout));
        }
        match self.opened.allocate_aligned(layout.size(), layout.align(), raw) {
            Ok(memory) => Ok(Block::new(self.maker, NonNull::new(memory.cast()).expect("some bytes"), layout, 0)),
            Err(CumemError {
                status: CumemStatus::OutOfMemory | CumemStatus::LimitExceeded,
                requested,
                available,
                limit,
                ..
            }) => {
                let [requested, free, total] = [requested, available, limit].map(|bytes| bytes as usize);
                Err(AllocError::OutOfMemory { layer: "C", requested, free, total, device: self.device().id() })
            }
            Err(CumemError { status: CumemStatus::InvalidArgument, .. }) => {
                let (alignment, maximum) = (layout.align(), 256);
                Err(AllocError::UnsupportedAlignment { layer: "C", alignment, maximum })
            }
            Err(_) => Err(self.refused("this allocation").into()),
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let raw = match self.raw(stream) {
            Ok(raw) => raw,
            Err(error) => return Err(DeallocError::new(block, error)),
        };
        if block.maker() != self.maker {
            return Err(DeallocError::foreign("C", block));
        }
        if block.size() == 0 {
            return Ok(());
        }
        self.opened.free(block.as_ptr().cast(), block.size(), raw).map_err(|error| {
            assert_eq!(error.address, block.addr(), "{error:?}");
            DeallocError::new(block, DeallocReason::from(self.refused("this free")))
        })
    }
}

conformance!(leaf, |device| ThroughC::new("device", device)?);
conformance!(pool, |device| ThroughC::new("device | pool", device)?, Expectations::default().max_alignment(1 << 21));
conformance!(
    stack,
    |device| ThroughC::new("virtual | pool | limit(80%) | statistics", device)?,
    Expectations::default().max_alignment(1 << 21)
);

#[test]
fn blocks_of_another_stack_are_foreign() {
    let device = Device::simulated(Profile::default()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let [one, two] = ["device | pool", "device"].map(|text| ThroughC::new(text, &device).unwrap());
    let block = one.allocate(&stream, cumem::layout::bytes(1000).unwrap()).unwrap();
    // SAFETY: nothing uses the block.
    let error = unsafe { two.deallocate(&stream, block) }.unwrap_err();
    // SAFETY: as above.
    unsafe { one.deallocate(&stream, error.block) }.unwrap();
}
