use cumem_adaptors::ResourceExt;
use cumem_adaptors::cumem::{Device, PinnedResource};

fn stack(device: &Device) {
    let _ = PinnedResource::new(device).limit(1024).statistics().prefetch(device.id());
}

fn main() {}
