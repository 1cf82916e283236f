use cumem::ManagedResource;
use cumem_adaptors::{Pool, PoolOptions, Prefetch};

fn stack(prefetch: Prefetch<ManagedResource>) {
    let _ = Pool::new(prefetch, PoolOptions::default());
}

fn main() {}
