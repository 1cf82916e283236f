use cumem_adaptors::ResourceExt;
use cumem_adaptors::cumem::{AnyUpstream, CudaResource, Device};

fn stack(device: &Device) {
    let erased = AnyUpstream::new(CudaResource::new(device).statistics());
    let _ = erased.prefetch(device.id());
}

fn main() {}
