use cumem::MemoryResource;
use cumem::kind::{DeviceAccessible, Migratable};
use cumem::Buffer;

fn read<R: MemoryResource<Kind: DeviceAccessible + Migratable>>(buffer: &Buffer<f32, R>) {
    let _ = buffer.download(&mut [0.0]);
}

fn main() {}
