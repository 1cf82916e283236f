use cumem::{AnyResource, ManagedResource};
use cumem_adaptors::{Prefetch, Statistics};

fn stack(prefetch: Prefetch<ManagedResource>) {
    let erased = AnyResource::new(prefetch);
    let _ = Statistics::new(erased);
}

fn main() {}
