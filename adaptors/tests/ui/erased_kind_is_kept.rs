use cumem::{AnyUpstream, CudaResource, Device};
use cumem_adaptors::ResourceExt;

fn stack(device: &Device) {
    let erased = AnyUpstream::new(CudaResource::new(device).statistics());
    let _ = erased.prefetch(device.id());
}

fn main() {}
