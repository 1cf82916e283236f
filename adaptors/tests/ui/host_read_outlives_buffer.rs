use cumem::buffer::HostRead;
use cumem::{DeviceError, UnifiedBuffer};

fn escape(buffer: UnifiedBuffer<f32>) -> Result<HostRead<'static, f32>, DeviceError> {
    buffer.host_read()
}

fn main() {}
