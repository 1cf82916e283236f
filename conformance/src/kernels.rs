//! The few kernels that the suite runs on a GPU, and work that takes its time on any device.

use cumem::{Device, DriverError, Function, HostKernel, KernelArg, LaunchConfig, Module, Stream};

/// The kernels of `kernels.ptx`.
pub(crate) struct Kernels {
    pub(crate) fill: Function,
    pub(crate) verify: Function,
    spin: Function,
}

impl Kernels {
    pub(crate) fn load(device: &Device) -> Result<Self, DriverError> {
        let module = Module::from_ptx(device, include_str!("kernels.ptx"))?;
        let function = |name| module.function(name);
        Ok(Self { fill: function("fill")?, verify: function("verify")?, spin: function("spin")? })
    }
}

/// Keeps streams busy.
pub(crate) struct BusyWork(Option<Kernels>);

impl BusyWork {
    /// On a GPU this must stay until the work is done: unloading a kernel waits for it.
    pub(crate) fn new(device: &Device) -> Result<Self, DriverError> {
        let on_gpu = !device.is_simulated();
        Ok(Self(on_gpu.then(|| Kernels::load(device)).transpose()?))
    }

    /// Work of about 20 ms, of virtual time on a simulated device.
    pub(crate) fn enqueue(&self, stream: &Stream) -> Result<(), DriverError> {
        let Some(kernels) = &self.0 else {
            let kernel = HostKernel::new("busy", |_| ()).operations(1 << 40);
            // SAFETY: the kernel touches nothing.
            return unsafe { stream.launch_host(kernel) };
        };
        let one_thread = LaunchConfig::new((1, 1, 1), (1, 1, 1));
        let cycles = KernelArg::new(40_000_000_u64);
        // SAFETY: the argument is `spin`'s, which touches nothing.
        unsafe { stream.launch_kernel(&kernels.spin, one_thread, &[cycles]) }
    }
}
