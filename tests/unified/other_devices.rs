//! Managed memory of one device, used by work of another device of the machine.

use crate::common;
use cumem::kernel::HostKernel;
use cumem::sim::{Profile, Simulator};
use cumem::{AnyResource, Buffer, CudaResource, Device, DeviceError, ManagedResource, Stream, UnifiedBuffer, kind};
use cumem_adaptors::{PoolOptions, ResourceExt, StackSpec};

const LEN: usize = 1 << 20;

fn machine(profiles: [Profile; 2]) -> [Device; 2] {
    let simulator = Simulator::new(profiles).unwrap();
    [0, 1].map(|ordinal| Device::of_simulator(&simulator, ordinal).unwrap())
}

/// Fills a buffer on a stream of any device that its memory is ready on.
fn fill<R: cumem::MemoryResource>(buffer: &Buffer<u8, R>, value: u8, stream: &Stream) {
    let kernel = HostKernel::new("fill", move |memory| memory.write::<u8>(0).fill(value));
    // SAFETY: the buffer lives until its stream has passed the kernel.
    unsafe { stream.launch_host(kernel.writes(buffer.device_address(), buffer.size_bytes())) }.unwrap();
}

#[test]
fn work_of_another_device_is_declared_and_waited_for() {
    let [first, second] = machine([Profile::default(), Profile::default()]);
    let simulator = first.simulator().unwrap();
    simulator.detect_races(true);
    let (here, there) = (Stream::new(&first).unwrap(), Stream::new(&second).unwrap());
    let pool = ManagedResource::new(&first).unwrap().pool(PoolOptions::new()).unwrap();
    let mut buffer = UnifiedBuffer::<u8, _>::zeroed(LEN, &here, &pool).unwrap();

    fill(&buffer, 1, &here);
    buffer.set_stream(&there).unwrap();
    assert_eq!((buffer.stream(), buffer.device()), (&there, &second));
    fill(&buffer, 2, &there);
    assert!(buffer.host_read().unwrap().iter().all(|byte| *byte == 2), "the guard waits for the second device");
    assert!(buffer.prefetch(second.id()).unwrap().is_applied());

    fill(&buffer, 3, &there);
    buffer.resize(2 * LEN).unwrap();
    assert_eq!(buffer.stream(), &there);
    let bytes = buffer.to_vec().unwrap();
    assert!(bytes[..LEN].iter().all(|byte| *byte == 3) && bytes[LEN..].iter().all(|byte| *byte == 0));

    fill(&buffer, 4, &there);
    buffer.set_stream(&here).unwrap();
    fill(&buffer, 5, &here);
    assert!(buffer.to_vec().unwrap().iter().all(|byte| *byte == 5));

    buffer.set_stream(&there).unwrap();
    fill(&buffer, 6, &there);
    drop(buffer);
    // The pool gives the memory to the next buffer, which the work of the second device must not overwrite.
    let next = UnifiedBuffer::<u8, _>::zeroed(2 * LEN, &here, &pool).unwrap();
    assert!(next.to_vec().unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(simulator.take_races(), []);
    drop(next);
    drop(pool);
    first.trim_staging();
    second.trim_staging();
    assert!(simulator.live_allocations().no_memory(), "{}", simulator.live_allocations());
}

#[test]
fn memory_that_only_its_device_can_use_stays_there() {
    let [first, second] = machine([Profile::default(), Profile::default()]);
    let (here, there) = (Stream::new(&first).unwrap(), Stream::new(&second).unwrap());
    let wrong = DeviceError::WrongDevice { what: "the stream", found: second.id(), expected: first.id() };
    let mut plain = Buffer::<u8, _>::zeroed(LEN, &here, CudaResource::new(&first)).unwrap();
    assert_eq!(plain.set_stream(&there), Err(wrong));
    assert_eq!(plain.stream(), &here);

    let elsewhere = Stream::new(&common::simulated()).unwrap();
    let mut managed = UnifiedBuffer::<u8, _>::zeroed(LEN, &here, ManagedResource::new(&first).unwrap()).unwrap();
    assert!(matches!(managed.set_stream(&elsewhere), Err(DeviceError::WrongDevice { .. })));
    managed.set_stream(&there).unwrap();
    assert!(matches!(managed.set_stream(&elsewhere), Err(DeviceError::WrongDevice { .. })));
    assert_eq!(managed.stream(), &there);
}

#[test]
fn a_device_without_concurrent_access_takes_no_part() {
    for profiles in [[Profile::wsl(), Profile::default()], [Profile::default(), Profile::wsl()]] {
        let [first, second] = machine(profiles);
        let (here, there) = (Stream::new(&first).unwrap(), Stream::new(&second).unwrap());
        let mut managed = UnifiedBuffer::<u8, _>::zeroed(LEN, &here, ManagedResource::new(&first).unwrap()).unwrap();
        assert!(matches!(managed.set_stream(&there), Err(DeviceError::WrongDevice { .. })));
    }
}

/// The buffer moves to memory that the other device cannot use.
#[test]
fn a_new_block_of_other_memory_brings_the_buffer_home() {
    let [first, second] = machine([Profile::tiny(64 << 20), Profile::tiny(64 << 20)]);
    let (here, there) = (Stream::new(&first).unwrap(), Stream::new(&second).unwrap());
    let stack = StackSpec::parse("device | limit(4KiB) | spill(managed)").unwrap().build(&first).unwrap();
    let stack: AnyResource<kind::Erased> = stack.into_device_accessible().unwrap();
    let mut buffer = Buffer::<u8, _>::zeroed(LEN, &here, stack).unwrap();
    buffer.set_stream(&there).unwrap();
    fill(&buffer, 7, &there);
    buffer.resize(1000).unwrap();
    buffer.shrink_to_fit().unwrap();
    assert_eq!(buffer.device(), &first, "the new block is device memory");
    assert_eq!(buffer.to_vec().unwrap(), [7; 1000]);
}
