use cumem::{Buffer, CudaResource, Stream};

#[derive(Clone, Copy)]
#[repr(C)]
struct Padded {
    flag: u8,
    number: u32,
}

fn three_bytes_are_never_written(values: &[Padded], stream: &Stream, resource: CudaResource) {
    let _ = Buffer::from_slice(values, stream, resource);
}

fn main() {}
