use cumem::{Buffer, CudaResource};
use cumem_adaptors::Statistics;

fn write(buffer: &mut Buffer<f32, Statistics<CudaResource>>) {
    let _ = buffer.host_write();
}

fn main() {}
