use cumem::{Device, DriverError, ManagedResource};
use cumem_adaptors::ResourceExt;

fn stack(device: &Device) -> Result<(), DriverError> {
    let _ = ManagedResource::new(device)?.prefetch(device.id())?.prefetch(device.id());
    Ok(())
}

fn main() {}
