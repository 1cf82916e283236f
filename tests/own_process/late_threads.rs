//! A thread-local value whose drop uses the library, before and after the library's own thread-local values are gone.

use crate::common;
use cumem::{Buffer, CudaAsyncResource, CudaResource, Device, ManagedResource, Stream, UnifiedBuffer, current};
use cumem_adaptors::{Pool, PoolOptions, ResourceExt, Statistics};
use cumem_test_support::own_process;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

// A panic in the drop of a thread-local value aborts the process.
own_process!(a_thread_local_value_uses_the_library_when_it_is_dropped);

type Stack = Arc<Statistics<Pool<CudaResource>>>;

/// Uses the library when it is dropped.
struct Late(Device, Stack, Arc<AtomicUsize>);

impl Drop for Late {
    fn drop(&mut self) {
        let Self(device, stack, done) = self;
        let stream = Stream::per_thread_default(device);
        let mut buffer = Buffer::from_slice(&[7_u8; 1000], &stream, &**stack).unwrap();
        buffer.resize(2000).unwrap();
        assert_eq!(buffer.to_vec().unwrap()[..1000], [7; 1000]);
        let own = Stream::new(device).unwrap();
        buffer.set_stream(&own).unwrap();
        drop(buffer);
        let mut managed = UnifiedBuffer::zeroed(1 << 20, &stream, ManagedResource::new(device).unwrap()).unwrap();
        managed.upload(&vec![7_u8; 1 << 20]).unwrap();
        assert!(managed.prefetch(device.id()).unwrap().is_applied());
        managed.host_write().unwrap()[0] = 8;
        drop(Buffer::<u8, _>::zeroed(1000, &stream, CudaAsyncResource::new(device).unwrap()).unwrap());
        drop(Buffer::<u8, _>::zeroed(1000, &stream, current::get(device)).unwrap());
        let scope = stack.state().thread_scope();
        drop(Buffer::<u8, _>::zeroed(1000, &own, &**stack).unwrap());
        assert_eq!(scope.end().total_blocks, 1);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });

fn a_thread_local_value_uses_the_library_when_it_is_dropped() {
    let device = common::simulated();
    let pool = CudaResource::new(&device).pool(PoolOptions::new()).unwrap();
    let (stack, done): (Stack, _) = (Arc::new(pool.statistics()), Arc::new(AtomicUsize::new(0)));
    let late = || Late(device.clone(), Arc::clone(&stack), Arc::clone(&done));
    let use_library = || {
        let stream = Stream::per_thread_default(&device);
        drop(Buffer::<u8, _>::zeroed(1000, &stream, &*stack).unwrap());
    };
    let set = || LATE.with_borrow_mut(|place| *place = Some(late()));
    let orders: [&(dyn Fn() + Sync); 3] = [
        &|| {
            set();
            use_library();
        },
        &|| {
            use_library();
            set();
        },
        &set,
    ];
    for order in orders {
        thread::scope(|scope| scope.spawn(order).join().unwrap());
    }
    assert_eq!(done.load(Ordering::Relaxed), orders.len(), "`join` waits until the values are dropped");
    assert_eq!(stack.state().counts().current_blocks, 0);
}
