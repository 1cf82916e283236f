use cumem::{Buffer, HostResource, Stream};

fn make(stream: &Stream, resource: HostResource) {
    let _ = Buffer::<f32, _>::zeroed(16, stream, resource);
}

fn main() {}
