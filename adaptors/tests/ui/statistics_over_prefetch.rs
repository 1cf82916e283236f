use cumem_adaptors::{Prefetch, Statistics};
use cumem_adaptors::cumem::ManagedResource;

fn stack(prefetch: Prefetch<ManagedResource>) {
    let _ = Statistics::new(prefetch);
}

fn main() {}
