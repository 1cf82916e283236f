use cumem::error::InvalidLayout;
use cumem::kind::Managed;
use cumem::layer::Beneath;
use cumem::{AllocError, Block, DeallocError, Device, Layer, MemoryResource, Stream};
use cumem_adaptors::ResourceExt;
use std::alloc::Layout;
use std::any::Any;
use std::fmt;

struct MyResource(Device);

impl Layer for MyResource {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mine")
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Device(&self.0)
    }
    fn state(&self) -> &dyn Any {
        &()
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, cumem::error::TrimError> {
        Ok(0)
    }
}

unsafe impl MemoryResource for MyResource {
    type Kind = Managed;

    fn allocate(&self, _: &Stream, layout: Layout) -> Result<Block, AllocError> {
        Err(InvalidLayout { size: layout.size(), alignment: layout.align() }.into())
    }

    unsafe fn deallocate(&self, _: &Stream, _: Block) -> Result<(), DeallocError> {
        Ok(())
    }
}

fn stack(mine: MyResource) {
    let _ = mine.statistics();
}

fn main() {}
