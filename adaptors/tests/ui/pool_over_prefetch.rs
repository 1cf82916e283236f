use cumem_adaptors::{Pool, PoolOptions, Prefetch};
use cumem_adaptors::cumem::ManagedResource;

fn stack(prefetch: Prefetch<ManagedResource>) {
    let _ = Pool::new(prefetch, PoolOptions::default());
}

fn main() {}
