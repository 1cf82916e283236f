use cumem::{Block, CudaResource, MemoryResource, Stream};

unsafe fn free(resource: &CudaResource, stream: &Stream, block: Block) {
    let _ = unsafe { resource.deallocate(stream, block) };
    let _ = unsafe { resource.deallocate(stream, block) };
}

fn main() {}
