use cumem_adaptors::ResourceExt;
use cumem_adaptors::cumem::{Device, DriverError, ManagedResource};

fn stack(device: &Device) -> Result<(), DriverError> {
    let _ = ManagedResource::new(device)?.prefetch(device.id())?.limit(1024);
    Ok(())
}

fn main() {}
