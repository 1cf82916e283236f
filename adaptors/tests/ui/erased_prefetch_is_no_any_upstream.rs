use cumem_adaptors::Prefetch;
use cumem_adaptors::cumem::{AnyUpstream, ManagedResource};

fn stack(prefetch: Prefetch<ManagedResource>) {
    let _ = AnyUpstream::new(prefetch);
}

fn main() {}
