use cumem::{AllocError, Buffer, CudaResource, Device, Stream};
use cumem_adaptors::ResourceExt;

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
