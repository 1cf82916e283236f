use cumem_adaptors::Prefetch;
use cumem_adaptors::cumem::{CudaResource, Device};

fn stack(device: &Device) {
    let _ = Prefetch::new(CudaResource::new(device), device.id());
}

fn main() {}
