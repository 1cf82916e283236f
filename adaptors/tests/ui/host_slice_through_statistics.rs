use cumem_adaptors::Statistics;
use cumem_adaptors::cumem::{Buffer, CudaResource};

fn write(buffer: &mut Buffer<f32, Statistics<CudaResource>>) {
    let _ = buffer.host_write();
}

fn main() {}
