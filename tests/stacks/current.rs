//! The per-device default resource.

use crate::common;
use cumem::device::MemoryType;
use cumem::kernel::HostKernel;
use cumem::{
    Buffer, CudaResource, Device, DeviceError, DriverError, LayerExt, Location, ManagedResource, MemoryResource,
    PinnedResource, Stream, current, layout, sim,
};
use cumem_adaptors::{LogOptions, PrefetchState, ResourceExt, StatisticsState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

on_devices!(starts_plain_and_returns_the_previous, guards_restore_their_own_device, handles_outlive_a_change);

/// Lets one test at a time change the default resource, because a GPU has one for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn starts_plain_and_returns_the_previous(device: &Device) {
    let _alone = alone();
    current::reset(device);
    assert_eq!(current::get(device).to_string(), format!("device on {}", device.id()));

    let previous = current::set(device, ManagedResource::new(device).unwrap().statistics()).unwrap();
    assert_eq!(previous.to_string(), format!("device on {}", device.id()));
    let stream = Stream::new(device).unwrap();
    let buffer = Buffer::from_slice(&[1_u8, 2, 3], &stream, current::get(device)).unwrap();
    assert_eq!(current::get(device).find::<StatisticsState>().unwrap().counts().current_bytes, 3);

    // The buffer keeps the resource that allocated it.
    let previous = current::reset(device);
    assert_eq!(previous.to_string(), format!("statistics over managed on {}", device.id()));
    assert_eq!(buffer.to_vec().unwrap(), [1, 2, 3]);
    drop(buffer);
    assert_eq!(previous.find::<StatisticsState>().unwrap().counts().current_bytes, 0);
}

fn guards_restore_their_own_device(device: &Device) {
    let _alone = alone();
    let other = common::simulated();
    current::reset(device);
    {
        let _outer = current::scoped(device, CudaResource::new(device).statistics()).unwrap();
        let _elsewhere = current::scoped(&other, ManagedResource::new(&other).unwrap()).unwrap();
        {
            let _inner = current::scoped(device, ManagedResource::new(device).unwrap().limit(1 << 20)).unwrap();
            assert!(current::get(device).to_string().starts_with("limit"));
        }
        assert!(current::get(device).to_string().starts_with("statistics over device"));
        assert!(current::get(&other).to_string().starts_with("managed"));
    }
    assert!(current::get(device).to_string().starts_with("device"));
    assert!(current::get(&other).to_string().starts_with("device"));
}

fn handles_outlive_a_change(device: &Device) {
    let _alone = alone();
    let stream = Stream::new(device).unwrap();
    let old = current::get(device);
    let previous = current::set(device, CudaResource::new(device).limit(1)).unwrap();
    drop(previous);
    assert!(Buffer::<u8, _>::zeroed(4096, &stream, old).is_ok());
    assert!(Buffer::<u8, _>::zeroed(4096, &stream, current::get(device)).is_err());
    current::reset(device);
}

#[test]
fn a_resource_of_another_device_is_refused() {
    let (one, two) = (common::simulated(), common::simulated());
    let error = current::set(&one, CudaResource::new(&two)).unwrap_err();
    assert!(
        matches!(error, DeviceError::WrongDevice { found, expected, .. } if found == two.id() && expected == one.id()),
        "{error}"
    );
    assert_eq!(current::get(&one).to_string(), format!("device on {}", one.id()));
}

#[test]
fn a_device_that_does_not_exist_has_no_default() {
    let simulator = sim::Simulator::new([sim::Profile::default()]).unwrap();
    let error = Device::of_simulator(&simulator, 3).unwrap_err();
    assert_eq!(error, DriverError::NoSuchDevice { ordinal: 3, count: 1 });
}

/// A simulator drops its pending work when it is dropped, so the pending work shows whether it was.
#[test]
fn a_simulator_is_dropped_with_its_last_handle() {
    let mark = Arc::new(());
    {
        let device = common::simulated();
        let stream = Stream::new(&device).unwrap();
        // Every handle to the initial resource deallocates the blocks of the others.
        let block = current::get(&device).allocate(&stream, layout::bytes(64).unwrap()).unwrap();
        let scope = current::scoped(&device, CudaResource::new(&device).statistics()).unwrap();
        drop(current::get(&device));
        drop(scope);
        common::free(&current::get(&device), &stream, block).unwrap();
        current::set(&device, CudaResource::new(&device).limit(1)).unwrap();
        current::reset(&device);
        let _default = (Stream::legacy_default(&device), Stream::per_thread_default(&device));

        let held = Arc::clone(&mark);
        // SAFETY: the kernel uses no memory.
        unsafe { stream.launch_host(HostKernel::new("never", move |_| drop(held))) }.unwrap();
        assert_eq!(Arc::strong_count(&mark), 2);
    }
    assert_eq!(Arc::strong_count(&mark), 1);
}

#[test]
fn many_threads_set_and_get() {
    let device = common::simulated();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let stream = Stream::new(&device).unwrap();
                while !done.load(Ordering::Relaxed) {
                    Buffer::<u8, _>::zeroed(100, &stream, current::get(&device)).unwrap();
                }
            });
        }
        for i in 0..200 {
            match i % 2 {
                0 => current::set(&device, CudaResource::new(&device).statistics()).unwrap(),
                _ => current::reset(&device),
            };
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Defaults of several threads for a while, which end in an order that no thread chooses.
#[test]
fn each_guard_removes_its_own_default() {
    let device = common::simulated();
    let limited = |bytes: usize| current::scoped(&device, CudaResource::new(&device).limit(bytes)).unwrap();
    let now = || current::get(&device).to_string();
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut guards = [1000_usize, 2000, 3000].map(|bytes| Some((bytes, limited(bytes))));
        for ends in order {
            guards[ends] = None;
            let expected = match guards.iter().flatten().last() {
                Some((bytes, _)) => format!("limit({bytes}B) over device on {}", device.id()),
                None => format!("device on {}", device.id()),
            };
            assert_eq!(now(), expected, "{order:?}");
        }
    }
}

#[test]
fn a_default_that_is_set_within_a_scope_ends_with_the_scope() {
    let device = common::simulated();
    let name = |word: &str| format!("{word} on {}", device.id());
    current::set(&device, ManagedResource::new(&device).unwrap()).unwrap();
    let scope = current::scoped(&device, CudaResource::new(&device).statistics()).unwrap();
    let previous = current::set(&device, CudaResource::new(&device).limit(1000_usize)).unwrap();
    assert_eq!(previous.to_string(), name("statistics over device"));
    assert_eq!(current::reset(&device).to_string(), name("limit(1000B) over device"));
    assert_eq!(current::get(&device).to_string(), name("device"));
    drop(scope);
    assert_eq!(current::get(&device).to_string(), name("managed"));
    current::reset(&device);
}

/// Code that allocates from the default goes on while statistics and a log are added and removed.
#[test]
fn a_default_is_wrapped_and_unwrapped_around_running_code() {
    let device = common::simulated();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let stream = Stream::new(&device).unwrap();
                let mut live = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    live.push(Buffer::<u8, _>::zeroed(100, &stream, current::get(&device)).unwrap());
                    if live.len() > 8 {
                        live.swap_remove(0);
                    }
                }
            });
        }
        for _ in 0..100 {
            let plain = current::update(&device, |upstream| upstream.statistics()).unwrap();
            let stack = current::get(&device).logging(LogOptions::sink(std::io::sink())).unwrap();
            let counted = current::set(&device, stack).unwrap();
            assert_eq!(
                current::get(&device).to_string(),
                format!("log over statistics over device on {}", device.id())
            );
            drop(counted);
            let logged = current::restore(&device, plain).unwrap();
            assert_eq!(logged.find::<StatisticsState>().unwrap().counts().failures, 0);
        }
        done.store(true, Ordering::Relaxed);
    });
    current::reset(&device);
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

#[test]
fn a_default_that_prefetches_can_be_wrapped_and_its_buffers_are_prefetched() {
    let device = common::simulated();
    let stream = Stream::new(&device).unwrap();
    current::set(&device, ManagedResource::new(&device).unwrap().prefetch(device.id()).unwrap()).unwrap();
    current::update(&device, |upstream| upstream.statistics()).unwrap();
    let mut buffer = Buffer::<u8, _>::zeroed(1 << 20, &stream, current::get(&device)).unwrap();
    let default = current::get(&device);
    assert_eq!(default.find::<StatisticsState>().unwrap().counts().current_bytes, 1 << 20);
    assert_eq!(default.find::<PrefetchState>().unwrap().bytes(), 1 << 20);
    assert!(buffer.prefetch(Location::Host).unwrap().is_applied());
    buffer.try_host_write().unwrap()[3] = 7;
    assert_eq!(buffer.try_host_read().unwrap()[..5], [0, 0, 0, 7, 0]);
    drop(buffer);
    current::reset(&device);
}

#[test]
fn the_host_has_access_where_the_memory_of_the_default_allows_it() {
    let device = common::simulated();
    let stream = Stream::new(&device).unwrap();
    let buffer = || Buffer::<u8, _>::zeroed(4096, &stream, current::get(&device)).unwrap();
    let mut plain = buffer();
    let refused = DeviceError::NotHostAccessible { memory: MemoryType::Device, device: device.id() };
    assert_eq!(plain.try_host_read().unwrap_err(), refused);
    assert_eq!(plain.try_host_write().unwrap_err(), refused);
    assert!(!plain.prefetch(device.id()).unwrap().is_applied());
    let text = format!("the buffer has device memory of {}, which the host cannot access", device.id());
    assert_eq!(refused.to_string(), text);
    let _pinned = current::scoped(&device, PinnedResource::new(&device)).unwrap();
    let mut pinned = buffer();
    pinned.try_host_write().unwrap()[0] = 1;
    assert_eq!((pinned.try_host_read().unwrap()[0], pinned.prefetch(device.id()).unwrap().is_applied()), (1, false));
    let mut empty = Buffer::<u32, _>::zeroed(0, &stream, CudaResource::new(&device)).unwrap();
    assert_eq!(empty.try_host_read().unwrap().len(), 0);
    assert_eq!(empty.try_host_write().unwrap().len(), 0);
}

#[test]
fn a_scope_of_a_thread_is_for_its_thread_and_device() {
    let (device, other) = (common::simulated(), common::simulated());
    let name = |of: &Device| current::get(of).to_string().split(" on ").next().unwrap().to_owned();
    let outer = current::thread_scoped(&device, CudaResource::new(&device).limit(1000_usize)).unwrap();
    let inner = current::thread_scoped(&device, PinnedResource::new(&device)).unwrap();
    let _process = current::scoped(&device, ManagedResource::new(&device).unwrap()).unwrap();
    assert_eq!((name(&device), name(&other)), ("pinned".into(), "device".into()));
    let elsewhere = || std::thread::scope(|scope| scope.spawn(|| name(&device)).join().unwrap());
    assert_eq!(elsewhere(), "managed");
    // `set` and `reset` are about the innermost scope.
    assert!(current::reset(&device).to_string().starts_with("pinned"));
    assert_eq!((name(&device), elsewhere()), ("device".into(), "managed".into()));
    current::update(&device, |upstream| upstream.statistics()).unwrap();
    assert_eq!(name(&device), "statistics over device");
    drop(inner);
    assert_eq!(name(&device), "limit(1000B) over device");
    drop(outer);
    assert_eq!(name(&device), "managed");
    let error = current::thread_scoped(&device, CudaResource::new(&other)).unwrap_err();
    assert!(matches!(error, DeviceError::WrongDevice { .. }), "{error}");
    assert!(current::restore(&device, current::get(&other)).is_err());
}

/// The guards of a thread end in any order, and the resource of a scope is dropped with its guard.
#[test]
fn each_guard_of_a_thread_removes_its_own_default() {
    let device = common::simulated();
    let stack = |bytes: usize| Arc::new(CudaResource::new(&device).limit(bytes));
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let stacks = [1000_usize, 2000, 3000].map(stack);
        let mut guards =
            stacks.each_ref().map(|stack| Some(current::thread_scoped(&device, Arc::clone(stack)).unwrap()));
        for ends in order {
            guards[ends] = None;
            assert_eq!(Arc::strong_count(&stacks[ends]), 1);
            let last = guards.iter().rposition(Option::is_some);
            let expected = last.map_or("device".into(), |last| format!("limit({}B) over device", 1000 * (last + 1)));
            assert_eq!(current::get(&device).to_string(), format!("{expected} on {}", device.id()), "{order:?}");
        }
    }
}
