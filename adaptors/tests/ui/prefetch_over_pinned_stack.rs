use cumem::{Device, PinnedResource};
use cumem_adaptors::ResourceExt;

fn stack(device: &Device) {
    let _ = PinnedResource::new(device).limit(1024).statistics().prefetch(device.id());
}

fn main() {}
