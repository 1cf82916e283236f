use cumem::unified::AutoPrefetchOptions;
use cumem::{CudaResource, Device};
use cumem_adaptors::AutoPrefetch;

fn stack(device: &Device) {
    let _ = AutoPrefetch::new(CudaResource::new(device), AutoPrefetchOptions::default());
}

fn main() {}
