//! An adaptor outside the crates of this project. When the upstream is out of memory, the adaptor calls a closure of
//! the application that frees memory, and allocates again. (RMM's `failure_callback_resource_adaptor` is similar, but
//! retries without end if its callback always returns true.)
//!
//! ```console
//! $ cargo run --release --example write_an_adaptor
//! ```

mod common;

use clap::Parser;
use cumem::{AllocError, Block, Buffer, DeallocError, Device, ManagedResource, MemoryResource, Stream, Upstream};
use cumem_adaptors::ResourceExt;
use cumem_conformance::{AdaptorSuite, Place};
use std::alloc::Layout;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tracing::subscriber::NoSubscriber;

/// Allocates a batch through an adaptor that empties a cache, and runs the conformance suite on the adaptor.
#[derive(Parser)]
struct Args {}

/// Calls `make_room` when `upstream` is out of memory, until the allocation succeeds or `make_room` returns `false`.
struct MakeRoom<U, F> {
    make_room: F,
    upstream: U,
}

// The name of the adaptor, and `Upstream`, because other adaptors may wrap this one.
cumem::adaptor_layer! {
    impl[U, F: Fn() -> bool] Layer, Upstream for MakeRoom<U, F> {
        upstream: U = upstream;
        describe = "make_room";
    }
}

// SAFETY: every block is the upstream's, and is returned unchanged.
unsafe impl<U: Upstream, F: Fn() -> bool> MemoryResource for MakeRoom<U, F> {
    // The kind of memory is the upstream's, so `prefetch` and host slices work over this adaptor too.
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

fn main() -> ExitCode {
    common::main(|Args {}| {
        make_room_for_a_batch(&Device::first_or_simulated()?)?;

        // The checks that every adaptor must pass, on a simulated device: contents, order, threads, refusals, and each
        // driver call failed in turn. The library logs those failures, which would only repeat the report.
        let suite = AdaptorSuite::new(|upstream| Ok(MakeRoom { make_room: || false, upstream }));
        let report = tracing::subscriber::with_default(NoSubscriber::new(), || suite.run(&Place::simulated()));
        report.assert();
        Ok(())
    })
}

fn make_room_for_a_batch(device: &Device) -> Result<(), Box<dyn Error>> {
    let stream = Stream::new(device)?;

    // A cache of results fills the 8 MiB that the limit allows.
    let limited = Arc::new(ManagedResource::new(device)?.limit(8 << 20));
    let cache = Mutex::new(Vec::new());
    for _ in 0..8 {
        cache.lock().unwrap().push(Buffer::<u8, _>::zeroed(1 << 20, &stream, limited.clone())?);
    }

    // An allocation of 3 MiB then makes the adaptor drop entries of the cache, one at a time.
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
