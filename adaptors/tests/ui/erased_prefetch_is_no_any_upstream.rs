use cumem::{AnyUpstream, ManagedResource};
use cumem_adaptors::Prefetch;

fn stack(prefetch: Prefetch<ManagedResource>) {
    let _ = AnyUpstream::new(prefetch);
}

fn main() {}
