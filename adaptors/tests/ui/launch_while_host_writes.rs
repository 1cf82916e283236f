use cumem::{DeviceError, UnifiedBuffer};

fn alias(mut buffer: UnifiedBuffer<f32>) -> Result<(), DeviceError> {
    let mut host = buffer.host_write()?;
    let address = buffer.device_address();
    host[0] = address as f32;
    Ok(())
}

fn main() {}
