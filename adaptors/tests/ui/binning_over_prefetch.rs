use cumem::{Device, ManagedResource};
use cumem_adaptors::{Binning, ResourceExt};

fn stack(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    let _ = Binning::new(ManagedResource::new(device)?.prefetch(device.id())?, [4096])?;
    Ok(())
}

fn main() {}
