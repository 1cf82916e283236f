use cumem::{CudaResource, Device};
use cumem_adaptors::Prefetch;

fn stack(device: &Device) {
    let _ = Prefetch::new(CudaResource::new(device), device.id());
}

fn main() {}
