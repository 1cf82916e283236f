use cumem::{Buffer, CudaResource};

fn two_exclusive_views(buffer: &mut Buffer<u32, CudaResource>) {
    let first = buffer.slice_mut(..2).unwrap();
    let mut second = buffer.slice_mut(1..).unwrap();
    second.copy_from_view(first.as_view()).unwrap();
}

fn main() {}
