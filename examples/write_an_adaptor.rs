//! An adaptor of one's own, outside the crates: when memory runs out it asks the application to make room, and
//! tries again. (RMM has one of the kind, `failure_callback_resource_adaptor`, which may try for ever.)
//!
//! ```console
//! $ cargo run --release --example write_an_adaptor
//! ```

use cumem::{AllocError, Block, Buffer, DeallocError, Device, ManagedResource, MemoryResource, Stream, Upstream};
use cumem_adaptors::ResourceExt;
use cumem_conformance::{AdaptorSuite, Place};
use std::alloc::Layout;
use std::sync::{Arc, Mutex};

/// Calls `make_room` when `upstream` is out of memory, for as long as it says that it freed something.
struct MakeRoom<U, F> {
    make_room: F,
    upstream: U,
}

// What the adaptor is called, and its place in a stack: any, because other adaptors may wrap it.
cumem::adaptor_layer! {
    impl[U, F: Fn() -> bool] Layer, Upstream for MakeRoom<U, F> {
        upstream: U = upstream;
        describe = "make_room";
    }
}

// SAFETY: every block is the upstream's, handed on unchanged.
unsafe impl<U: Upstream, F: Fn() -> bool> MemoryResource for MakeRoom<U, F> {
    // What the memory can do passes through, so `prefetch` and host slices work over this adaptor too.
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        loop {
            match self.upstream.allocate(stream, layout) {
                Err(error) if error.is_out_of_memory() && (self.make_room)() => {}
                result => return result,
            }
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: this method's contract is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().finish();
    tracing::subscriber::with_default(log, || make_room_for_a_batch(&Device::first_or_simulated()?))?;

    // What every adaptor must pass, on a simulated device: contents, order, threads, refusals, and every driver call
    // failed in turn, which is why nothing is logged here.
    AdaptorSuite::new(|upstream| Ok(MakeRoom { make_room: || false, upstream })).run(&Place::simulated()).assert();
    Ok(())
}

fn make_room_for_a_batch(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    let stream = Stream::new(device)?;

    // A cache of results fills the 8 MiB that the application may use ...
    let limited = Arc::new(ManagedResource::new(device)?.limit(8 << 20));
    let cache = Mutex::new(Vec::new());
    for _ in 0..8 {
        cache.lock().unwrap().push(Buffer::<u8, _>::zeroed(1 << 20, &stream, limited.clone())?);
    }

    // ... and makes room, entry by entry, when something needs 3 MiB.
    let make_room = || cache.lock().unwrap().pop().is_some();
    let stack = MakeRoom { make_room, upstream: limited }.statistics().prefetch(device.id())?;
    println!("stack:   {stack}");
    let batch = Buffer::<u8, _>::zeroed(3 << 20, &stream, &stack)?;
    println!("batch:   {} bytes, after {} of 8 cached results made room", batch.len(), 8 - cache.lock().unwrap().len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use cumem::sim::{Profile, faults};

    #[test]
    fn every_driver_call_may_fail() {
        faults::enumerate(&Profile::default(), super::make_room_for_a_batch).assert();
    }
}
