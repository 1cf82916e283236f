//! Shared by the tests of stacks: devices to run on, and a safe `deallocate`.

#![allow(dead_code, unused_macros)] // each test binary uses a part

use cumem::sim::Profile;
use cumem::{Block, DeallocError, Device, MemoryResource, Stream};

/// Makes two tests of each function that takes a device: one on a simulated device, and one on a GPU, which is ignored
/// unless `--include-ignored` asks for it.
///
/// After `alone:`, each test runs in a process of its own.
macro_rules! on_devices {
    (alone: $($name:ident),+ $(,)?) => {
        mod simulated_alone {
            $(#[test]
            fn $name() {
                let path = concat!(module_path!(), "::", stringify!($name));
                cumem_test_support::in_own_process(path, &[], || super::$name(&crate::common::simulated()));
            })+
        }

        mod gpu_alone {
            $(#[test]
            #[ignore = "needs a CUDA device"]
            fn $name() {
                let path = concat!(module_path!(), "::", stringify!($name));
                cumem_test_support::in_own_process(path, &[], || super::$name(&crate::common::gpu()));
            })+
        }
    };
    ($($name:ident),+ $(,)?) => {
        mod simulated {
            $(#[test]
            fn $name() {
                super::$name(&crate::common::simulated());
            })+
        }

        mod gpu {
            $(#[test]
            #[ignore = "needs a CUDA device"]
            fn $name() {
                super::$name(&crate::common::gpu());
            })+
        }
    };
}

/// Creates a simulated device that no other test has.
pub(crate) fn simulated() -> Device {
    Device::simulated(Profile::default()).unwrap()
}

/// Opens the first GPU.
pub(crate) fn gpu() -> Device {
    Device::open(0).expect("this test needs a CUDA device")
}

/// Deallocates a block that no work uses any more.
pub(crate) fn free(resource: &impl MemoryResource, stream: &Stream, block: Block) -> Result<(), DeallocError> {
    // SAFETY: these tests enqueue nothing that uses their blocks after this.
    unsafe { resource.deallocate(stream, block) }
}
