use cumem::unified::ManagedMemoryHints;
use cumem::{ManagedResource, UnifiedBuffer};

fn hints(buffer: UnifiedBuffer<u8, ManagedResource>) -> ManagedMemoryHints<'static> {
    buffer.hints().read_mostly()
}

fn main() {}
