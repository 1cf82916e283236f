use cumem::{Buffer, CudaResource, ManagedResource};
use cumem_adaptors::Spill;

fn read(buffer: &Buffer<u8, Spill<CudaResource, ManagedResource>>) {
    let _ = buffer.host_read();
}

fn main() {}
