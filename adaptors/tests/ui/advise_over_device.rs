use cumem::unified::MigrationPolicy;
use cumem::{CudaResource, Device};
use cumem_adaptors::ResourceExt;

fn stack(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    let _ = CudaResource::new(device).advise(MigrationPolicy::ReadMostly)?;
    Ok(())
}

fn main() {}
