//! [`TestUpstream`]: the upstream of an adaptor under test.

use crate::broken::BoxError;
use crate::fail_nth::FailNth;
use crate::ledger::BlockLedger;
use cumem::{Device, ManagedResource};

/// The upstream of an adaptor under test: managed memory, over which every adaptor may be built, with a ledger over it
/// and injected failures over that.
pub type TestUpstream = FailNth<BlockLedger<ManagedResource>>;

/// Creates a [`TestUpstream`] on `device`.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, Device, MemoryResource, Stream};
/// use cumem_conformance::test_upstream;
///
/// let device = Device::simulated(Profile::default())?;
/// let upstream = test_upstream(&device)?;
/// upstream.faults().fail_allocation(1);
/// let stream = Stream::new(&device)?;
/// assert!(upstream.allocate(&stream, layout::bytes(256)?).unwrap_err().is_out_of_memory());
/// upstream.upstream().book().settle()?; // no block is live
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
///
/// # Errors
///
/// Returns an error if the device has no managed memory.
pub fn test_upstream(device: &Device) -> Result<TestUpstream, BoxError> {
    Ok(FailNth::new(BlockLedger::new(ManagedResource::new(device)?)))
}
