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
/// # Errors
///
/// Returns an error if the device has no managed memory.
pub fn test_upstream(device: &Device) -> Result<TestUpstream, BoxError> {
    Ok(FailNth::new(BlockLedger::new(ManagedResource::new(device)?)))
}
