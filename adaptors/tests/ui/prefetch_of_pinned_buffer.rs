use cumem::{Buffer, Location, PinnedResource};

fn hint(buffer: &Buffer<f32, PinnedResource>) {
    let _ = buffer.prefetch(Location::Host);
}

fn main() {}
