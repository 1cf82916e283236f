use cumem::ManagedResource;
use cumem_adaptors::{Prefetch, Statistics};

fn stack(prefetch: &Prefetch<ManagedResource>) {
    let _ = Statistics::new(prefetch);
}

fn main() {}
