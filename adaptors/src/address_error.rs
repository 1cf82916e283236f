//! [`AddressError`]: why there is no block at an address.

use cumem::error::{DeallocReason, HumanBytes};

/// Why a stack has no block at an address, or could not free it.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, Stream, layout};
/// use cumem_adaptors::{AddressError, PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.by_address();
/// let address = stack.allocate_address(&stream, layout::bytes(1000)?)?;
/// // SAFETY: `address` came from this stack, and nothing has used the memory.
/// unsafe { stack.deallocate_address(&stream, address, None) }?;
/// // SAFETY: the memory is free, which the stack detects. Nothing has used it.
/// let again = unsafe { stack.deallocate_address(&stream, address, None) };
/// assert_eq!(again, Err(AddressError::AlreadyFree { addr: address.as_ptr() as u64 }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The memory at the address is free: its block was freed already.
    #[error("the memory at {addr:#x} is free: its block was freed already")]
    AlreadyFree {
        /// The address.
        addr: u64,
    },
    /// The address lies in a live block, behind its start.
    #[error(
        "{addr:#x} is not the start of a block: it lies in the live block of {} at {start:#x}", HumanBytes(*size)
    )]
    Inner {
        /// The address.
        addr: u64,
        /// The address of the block.
        start: u64,
        /// Bytes of the block. A pool reports the rounded size.
        size: usize,
    },
    /// A live block starts at the address, but the block was not released to its address: Rust code holds it.
    #[error("the block at {addr:#x} was not released to its address")]
    NotReleased {
        /// The address.
        addr: u64,
    },
    /// The address is in no memory of the stack, or in memory that the stack has given back to the driver.
    #[error("no block of this stack is at {addr:#x}")]
    Foreign {
        /// The address.
        addr: u64,
    },
    /// The caller gave another size than that of the block, which is still live.
    #[error("the block at {addr:#x} has {} bytes, and {} were given", size, given)]
    WrongSize {
        /// The address.
        addr: u64,
        /// Bytes of the block.
        size: usize,
        /// Bytes that the caller gave.
        given: usize,
    },
    /// The stack did not free the block, which is still live.
    #[error("the block at {addr:#x} could not be freed")]
    Refused {
        /// The address.
        addr: u64,
        /// The reason.
        #[source]
        reason: DeallocReason,
    },
}
