//! Each driver call of the functions of buffers fails in turn. Nothing is lost, and no value is wrong.

use cumem::bytemuck::Zeroable;
use cumem::sim::Profile;
use cumem::sim::faults::enumerate;
use cumem::{AllocError, Buffer, CudaResource, Device, ManagedResource, Stream};
use cumem_adaptors::{PoolOptions, ResourceExt};

fn numbers(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect()
}

#[test]
fn elements_and_fills() {
    enumerate(&Profile::default(), |device| {
        let stream = Stream::new(device)?;
        let mut buffer = Buffer::from_slice(&numbers(2000), &stream, CudaResource::new(device))?;
        buffer.set(1, 10)?;
        buffer.set_async(2, 20)?;
        let pending = buffer.get_async(2)?;
        let dropped = buffer.get_async(1)?;
        buffer.slice_mut(3..)?.fill(0x0102_0304)?;
        drop(dropped);
        assert_eq!((buffer.get(1)?, buffer.last()?, pending.wait()?), (10, 0x0102_0304, 20));
        buffer.zero()?;
        assert_eq!(buffer.first()?, u32::zeroed());
        Ok::<_, AllocError>(())
    })
    .assert();
}

#[test]
fn views_on_other_streams() {
    enumerate(&Profile::default(), |device| {
        let [stream, other] = [Stream::new(device)?, Stream::new(device)?];
        let pool = CudaResource::new(device).pool(PoolOptions::default())?;
        let source = Buffer::from_slice(&numbers(100), &stream, &pool)?;
        let mut buffer = Buffer::<u32, _>::zeroed(100, &stream, &pool)?;
        buffer.slice_mut(10..20)?.on(&other)?.copy_from_view(source.slice(..10)?)?;
        buffer.slice_mut(..1)?.on(&other)?.set_async(0, 7)?;
        let pending = buffer.as_view().on(&other)?.get_async(0)?;
        buffer.copy_within(10..20, 80)?;
        assert_eq!((buffer.slice(80..90)?.on(&other)?.to_vec()?, pending.wait()?), (numbers(10), 7));
        Ok::<_, Box<dyn std::error::Error>>(())
    })
    .assert();
}

#[test]
fn clones_and_blocks() {
    type Run = Result<(), Box<dyn std::error::Error>>;
    let program = |device: &Device| -> Run {
        let [stream, other] = [Stream::new(device)?, Stream::new(device)?];
        let managed = cumem::AnyResource::new(ManagedResource::new(device)?);
        let buffer = Buffer::from_slice(&numbers(100), &stream, managed)?;
        let copy = buffer.try_clone_on(&other, CudaResource::new(device))?;
        let clone = buffer.try_clone()?;
        let parts = buffer.into_bytes().cast::<[u32; 2]>()?.into_block()?;
        // SAFETY: the block is the buffer's, whose elements were written.
        let again = unsafe { Buffer::<u32, _>::from_block(parts.block, 100, &parts.stream, parts.resource) }?;
        assert_eq!((again.to_vec()?, copy.to_vec()?, clone.to_vec()?), (numbers(100), numbers(100), numbers(100)));
        Ok(())
    };
    enumerate(&Profile::default(), program).assert();
}
