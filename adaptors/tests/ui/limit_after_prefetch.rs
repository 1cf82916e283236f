use cumem::{Device, DeviceError, ManagedResource};
use cumem_adaptors::ResourceExt;

fn stack(device: &Device) -> Result<(), DeviceError> {
    let _ = ManagedResource::new(device)?.prefetch(device.id())?.limit(1024);
    Ok(())
}

fn main() {}
