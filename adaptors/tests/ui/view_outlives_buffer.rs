use cumem::{Buffer, CudaResource};

fn freed_memory(buffer: Buffer<u32, CudaResource>) {
    let view = buffer.slice(1..).unwrap();
    drop(buffer);
    let _ = view.to_vec();
}

fn main() {}
