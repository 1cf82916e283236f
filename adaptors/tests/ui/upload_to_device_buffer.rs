use cumem::{Buffer, CudaResource};

fn fill(buffer: &mut Buffer<f32, CudaResource>) {
    let _ = buffer.upload(&[1.0]);
}

fn main() {}
