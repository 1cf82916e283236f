//! Kernels: modules of PTX for a GPU, and closures for a simulated device, which the host runs.
//!
//! The examples of some items name `cumem_driver`. In a program that depends on `cumem`, write `cumem::kernel` instead.
//!
//! # Examples
//!
//! One program can contain both, and choose with [`Device::is_simulated`](crate::Device::is_simulated):
//!
//! ```
//! use cumem::kernel::{HostKernel, KernelArg, LaunchConfig, Module};
//! use cumem::{Buffer, CudaResource, Device, Stream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::first_or_simulated()?;
//! let stream = Stream::new(&device)?;
//! let numbers = Buffer::<u32, _>::zeroed(1000, &stream, CudaResource::new(&device))?;
//! let (addr, bytes) = (numbers.device_address(), numbers.size_bytes());
//! if device.is_simulated() {
//!     let fill = HostKernel::new("fill", |memory| memory.write::<u32>(0).fill(7)).writes(addr, bytes);
//!     // SAFETY: the kernel writes the buffer, which lives until `to_vec` below has waited for the kernel.
//!     unsafe { stream.launch_host(fill) }?;
//! } else {
//!     let fill = Module::from_ptx(&device, FILL)?.function("fill")?;
//!     let arguments = [KernelArg::new(addr), KernelArg::new(1000_u32), KernelArg::new(7_u32)];
//!     // SAFETY: `fill` takes these three arguments, and writes 1000 numbers, for which the buffer has room.
//!     unsafe { stream.launch_kernel(&fill, LaunchConfig::for_elements(1000, 256), &arguments) }?;
//! }
//! assert_eq!(numbers.to_vec()?, [7; 1000]);
//! # Ok(())
//! # }
//!
//! const FILL: &str = "
//!     .version 7.0
//!     .target sm_52
//!     .address_size 64
//!     .visible .entry fill(.param .u64 numbers, .param .u32 count, .param .u32 value) {
//!         .reg .pred %p; .reg .b32 %r<6>; .reg .b64 %a<3>;
//!         mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x;
//!         mad.lo.s32 %r3, %r0, %r1, %r2;
//!         ld.param.u32 %r4, [count];
//!         setp.ge.u32 %p, %r3, %r4;
//!         @%p bra done;
//!         ld.param.u64 %a0, [numbers]; cvta.to.global.u64 %a0, %a0;
//!         mul.wide.u32 %a1, %r3, 4; add.s64 %a2, %a0, %a1;
//!         ld.param.u32 %r5, [value];
//!         st.global.u32 [%a2], %r5;
//!         done: ret;
//!     }";
//! ```

pub use crate::device::graph::{Capture, Graph};
pub use crate::device::module::{Function, Module};
pub use cumem_driver::{
    Access, AccessMode, CaptureMode, CaptureState, HostKernel, KernelArg, KernelMemory, LaunchConfig, Pattern,
};
