use cumem::{Buffer, CudaResource};

fn read(buffer: &Buffer<f32, CudaResource>) {
    let _ = buffer.host_read();
}

fn main() {}
