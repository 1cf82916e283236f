use cumem::{Device, HostResource};
use cumem_adaptors::Scrub;

fn stack(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    let _ = Scrub::new(HostResource::new(device));
    Ok(())
}

fn main() {}
