//! The few kernels that the suite runs on a GPU, and work that keeps any device busy for a while.

use cumem::kernel::{Function, HostKernel, KernelArg, LaunchConfig, Module};
use cumem::{Device, DeviceError, Stream};

/// The kernels of `kernels.ptx`.
pub(crate) struct Kernels {
    pub(crate) fill: Function,
    pub(crate) verify: Function,
    spin: Function,
}

impl Kernels {
    pub(crate) fn load(device: &Device) -> Result<Self, DeviceError> {
        let module = Module::from_ptx(device, include_str!("kernels.ptx"))?;
        let function = |name| module.function(name);
        Ok(Self { fill: function("fill")?, verify: function("verify")?, spin: function("spin")? })
    }
}

/// Keeps streams busy.
pub(crate) struct BusyWork(Option<Kernels>);

impl BusyWork {
    /// Loads the kernels on a GPU; a simulated device needs none. On a GPU the value must outlive the work, because
    /// unloading a kernel waits for the work to finish.
    pub(crate) fn new(device: &Device) -> Result<Self, DeviceError> {
        let on_gpu = !device.is_simulated();
        Ok(Self(on_gpu.then(|| Kernels::load(device)).transpose()?))
    }

    /// Enqueues work of about 20 ms; on a simulated device that is virtual time.
    pub(crate) fn enqueue(&self, stream: &Stream) -> Result<(), DeviceError> {
        let Some(kernels) = &self.0 else {
            let kernel = HostKernel::new("busy", |_| ()).operations(1 << 40);
            // SAFETY: the kernel accesses no memory.
            return unsafe { stream.launch_host(kernel) };
        };
        let one_thread = LaunchConfig::new((1, 1, 1), (1, 1, 1));
        let cycles = KernelArg::new(40_000_000_u64);
        // SAFETY: the argument matches `spin`, which accesses no memory.
        unsafe { stream.launch_kernel(&kernels.spin, one_thread, &[cycles]) }
    }
}
