//! What the tests of stacks share: each runs on the simulated device, and on a GPU when it is asked to.

#![allow(dead_code)] // each test binary uses a part

use cumem::sim::Profile;
use cumem::{Block, DeallocError, Device, MemoryResource, Stream};

/// Makes of each function of a device two tests: one simulated, and one that says it needs a GPU.
#[macro_export]
macro_rules! on_devices {
    ($($name:ident),+ $(,)?) => {
        mod simulated {
            $(#[test]
            fn $name() {
                super::$name(&super::common::simulated());
            })+
        }

        mod gpu {
            $(#[test]
            #[ignore = "needs a CUDA device"]
            fn $name() {
                super::$name(&super::common::gpu());
            })+
        }
    };
}

/// A simulated device of its own.
pub(crate) fn simulated() -> Device {
    Device::simulated(Profile::default()).unwrap()
}

/// The first GPU.
pub(crate) fn gpu() -> Device {
    Device::open(0).expect("this test was asked for, and needs a CUDA device")
}

/// Gives back a block that no work uses any more.
pub(crate) fn free(resource: &impl MemoryResource, stream: &Stream, block: Block) -> Result<(), DeallocError> {
    // SAFETY: these tests enqueue nothing that uses their blocks after this.
    unsafe { resource.deallocate(stream, block) }
}
