use cumem::{Device, ManagedResource};
use cumem_adaptors::ResourceExt;

fn stack(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    let _ = ManagedResource::new(device)?.prefetch(device.id())?.aligned(4096)?;
    Ok(())
}

fn main() {}
