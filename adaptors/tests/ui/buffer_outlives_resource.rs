use cumem_adaptors::ResourceExt;
use cumem_adaptors::cumem::{AllocError, Buffer, CudaResource, Device, Stream};

fn escape(device: &Device, stream: &Stream) -> Result<(), AllocError> {
    let buffer;
    {
        let stack = CudaResource::new(device).statistics();
        buffer = Buffer::<f32, _>::zeroed(16, stream, &stack)?;
    }
    println!("{}", buffer.len());
    Ok(())
}

fn main() {}
