use cumem_adaptors::{Prefetch, Statistics};
use cumem_adaptors::cumem::{AnyResource, ManagedResource};

fn stack(prefetch: Prefetch<ManagedResource>) {
    let erased = AnyResource::new(prefetch);
    let _ = Statistics::new(erased);
}

fn main() {}
