//! The two kernels of a batch: on a GPU, or as closures on the host.

use cumem_adaptors::cumem::kernel::{Function, HostKernel, KernelArg, LaunchConfig, Module};
use cumem_adaptors::cumem::{Device, DeviceError, Stream};

const PTX: &str = include_str!("../kernels/cosine.ptx");

/// The kernels, loaded before the batches. `None` on a simulated device, where the host does the work.
pub(crate) struct Kernels {
    loaded: Option<(Function, Function)>,
}

/// The addresses of a batch and its results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) vectors: u64,
    pub(crate) norms: u64,
    pub(crate) index: u64,
    pub(crate) similarity: u64,
    pub(crate) count: u32,
    pub(crate) dimensions: u32,
}

impl Kernels {
    pub(crate) fn load(device: &Device) -> Result<Self, DeviceError> {
        if device.is_simulated() {
            return Ok(Self { loaded: None });
        }
        let module = Module::from_ptx(device, PTX)?;
        Ok(Self { loaded: Some((module.function("squared_norms")?, module.function("nearest_neighbours")?)) })
    }

    /// Enqueues the work on a batch.
    ///
    /// # Safety
    ///
    /// The addresses lead to memory of the sizes that the kernels need (examples/kernels/README.md). The memory stays
    /// allocated, and has no conflicting use, until the stream has executed the work.
    pub(crate) unsafe fn launch(&self, at: Addresses, stream: &Stream) -> Result<(), DeviceError> {
        match &self.loaded {
            // SAFETY: the caller upholds this function's contract, which is the same.
            Some((squared_norms, nearest)) => unsafe { launch_on_gpu(at, squared_norms, nearest, stream) },
            // SAFETY: the caller upholds this function's contract, which is the same.
            None => unsafe { launch_on_host(at, stream) },
        }
    }
}

/// # Safety
///
/// That of [`Kernels::launch`].
unsafe fn launch_on_gpu(
    at: Addresses,
    squared_norms: &Function,
    nearest: &Function,
    stream: &Stream,
) -> Result<(), DeviceError> {
    let [vectors, norms, index, similarity] = [at.vectors, at.norms, at.index, at.similarity].map(KernelArg::new);
    let [n, d] = [at.count, at.dimensions].map(KernelArg::new);
    let config = LaunchConfig::new((at.count.div_ceil(8), 1, 1), (256, 1, 1));
    // SAFETY: the arguments are those of the kernel, and the caller ensures that the memory is usable.
    unsafe { stream.launch_kernel(squared_norms, config, &[vectors, n, d, norms]) }?;
    let config = LaunchConfig::new((at.count.div_ceil(16), 1, 1), (16, 16, 1));
    // SAFETY: as above.
    unsafe { stream.launch_kernel(nearest, config, &[vectors, norms, n, d, index, similarity]) }
}

/// Launches the two kernels as closures, with the same arithmetic.
///
/// # Safety
///
/// That of [`Kernels::launch`].
unsafe fn launch_on_host(at: Addresses, stream: &Stream) -> Result<(), DeviceError> {
    let (n, d) = (at.count as usize, at.dimensions as usize);
    let squared_norms = HostKernel::new("squared_norms", move |memory| {
        let (vectors, norms) = (memory.read::<f32>(0), memory.write::<f32>(1));
        for (norm, vector) in norms.iter_mut().zip(vectors.chunks_exact(d)) {
            *norm = dot(vector, vector);
        }
    })
    .reads(at.vectors, 4 * n * d)
    .writes(at.norms, 4 * n)
    .operations(2 * (n * d) as u64);
    // SAFETY: the caller upholds this function's contract, which is the same.
    unsafe { stream.launch_host(squared_norms) }?;

    let nearest = HostKernel::new("nearest_neighbours", move |memory| {
        let (vectors, norms) = (memory.read::<f32>(0), memory.read::<f32>(1));
        let (index, similarity) = (memory.write::<u32>(2), memory.write::<f32>(3));
        for (i, query) in vectors.chunks_exact(d).enumerate() {
            let (mut best, mut best_rank, mut best_dot) = (u32::MAX, f64::NEG_INFINITY, 0.0);
            for (j, candidate) in vectors.chunks_exact(d).enumerate().filter(|(j, _)| *j != i) {
                let dot = f64::from(dot(query, candidate));
                let norm = f64::from(norms[j]);
                let rank = if norm == 0.0 { 0.0 } else { dot * dot.abs() / norm };
                if rank > best_rank {
                    (best, best_rank, best_dot) = (j as u32, rank, dot);
                }
            }
            index[i] = best;
            let product = f64::from(norms[i]) * norms.get(best as usize).copied().map_or(f64::NAN, f64::from);
            similarity[i] = if product == 0.0 { 0.0 } else { (best_dot / product.sqrt()) as f32 };
        }
    })
    .reads(at.vectors, 4 * n * d)
    .reads(at.norms, 4 * n)
    .writes(at.index, 4 * n)
    .writes(at.similarity, 4 * n)
    .operations(2 * (n * n * d) as u64);
    // SAFETY: the caller upholds this function's contract, which is the same.
    unsafe { stream.launch_host(nearest) }
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums let the compiler use vector instructions. On these integers every order of addition is exact.
    let mut sums = [0.0_f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
