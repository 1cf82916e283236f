use cumem::{Device, DeviceError, ManagedResource};
use cumem_adaptors::ResourceExt;

fn stack(device: &Device) -> Result<(), DeviceError> {
    let _ = ManagedResource::new(device)?.prefetch(device.id())?.prefetch(device.id());
    Ok(())
}

fn main() {}
