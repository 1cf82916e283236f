//! The job on the device: upload, advice, prefetch, two kernels, prefetch back, read.

use crate::digits::Digits;
use cumem_adaptors::cumem::{
    Advice, AnyResource, Device, DriverError, Function, HostKernel, KernelArg, LaunchConfig, Location, Module, Outcome,
    Stream, UnifiedBuffer, kind,
};
use std::error::Error;

const PTX: &str = include_str!("../kernels/cosine.ptx");

type Stack = AnyResource<kind::Managed>;

/// The kernels, loaded ahead of the batch; nothing where the host does the work.
pub(crate) struct Kernels {
    loaded: Option<(Function, Function)>,
}

impl Kernels {
    pub(crate) fn load(device: &Device) -> Result<Self, DriverError> {
        if device.is_simulated() {
            return Ok(Self { loaded: None });
        }
        let module = Module::from_ptx(device, PTX)?;
        Ok(Self { loaded: Some((module.function("squared_norms")?, module.function("nearest_neighbours")?)) })
    }
}

/// The buffers of one batch.
struct Batch {
    vectors: UnifiedBuffer<f32>,
    norms: UnifiedBuffer<f32>,
    index: UnifiedBuffer<u32>,
    similarity: UnifiedBuffer<f32>,
    count: u32,
    dimensions: u32,
}

/// The index of the nearest other vector, for each.
pub(crate) fn nearest_neighbours(
    digits: &Digits,
    kernels: &Kernels,
    stream: &Stream,
    stack: &Stack,
) -> Result<Vec<u32>, Box<dyn Error>> {
    let device = stream.device();
    let n = digits.len();
    let batch = Batch {
        vectors: UnifiedBuffer::from_slice(&digits.vectors(), stream, stack.clone())?,
        norms: UnifiedBuffer::zeroed(n, stream, stack.clone())?,
        index: UnifiedBuffer::zeroed(n, stream, stack.clone())?,
        similarity: UnifiedBuffer::zeroed(n, stream, stack.clone())?,
        count: u32::try_from(n)?,
        dimensions: u32::try_from(digits.dimensions())?,
    };
    report("vectors are read-mostly", batch.vectors.advise(Advice::SetReadMostly)?);
    report("results belong to the device", batch.index.advise(Advice::SetPreferredLocation(device.id().into()))?);
    report("vectors to the device", batch.vectors.prefetch(device.id())?);

    match &kernels.loaded {
        Some((squared_norms, nearest)) => launch_on_gpu(&batch, squared_norms, nearest, stream)?,
        None => launch_on_host(&batch, stream)?,
    }

    report("results to the host", batch.index.prefetch(Location::Host)?);
    let index = batch.index.host_read()?;
    let similarity = batch.similarity.host_read()?;
    let mean = similarity.iter().sum::<f32>() / n as f32;
    println!("result  mean similarity of the nearest neighbours {mean:.4}");
    Ok(index.to_vec())
}

fn report(what: &str, outcome: Outcome) {
    match outcome {
        Outcome::Applied => println!("hint    {what}"),
        Outcome::Skipped(reason) => println!("hint    {what}: skipped, {reason}"),
    }
}

fn launch_on_gpu(
    batch: &Batch,
    squared_norms: &Function,
    nearest: &Function,
    stream: &Stream,
) -> Result<(), DriverError> {
    let (n, d) = (KernelArg::new(batch.count), KernelArg::new(batch.dimensions));
    let vectors = KernelArg::new(batch.vectors.device_address());
    let norms = KernelArg::new(batch.norms.device_address());
    let index = KernelArg::new(batch.index.device_address());
    let similarity = KernelArg::new(batch.similarity.device_address());

    let config = LaunchConfig { grid: (batch.count.div_ceil(8), 1, 1), block: (256, 1, 1), shared_bytes: 0 };
    // SAFETY: the arguments are those of the kernel (examples/kernels/README.md), and the buffers live until the
    // results have been read.
    unsafe { stream.launch_kernel(squared_norms, config, &[vectors, n, d, norms]) }?;

    let config = LaunchConfig { grid: (batch.count.div_ceil(16), 1, 1), block: (16, 16, 1), shared_bytes: 0 };
    // SAFETY: as above.
    unsafe { stream.launch_kernel(nearest, config, &[vectors, norms, n, d, index, similarity]) }?;
    Ok(())
}

/// The two kernels as closures, in their arithmetic.
fn launch_on_host(batch: &Batch, stream: &Stream) -> Result<(), DriverError> {
    let (n, d) = (batch.count as usize, batch.dimensions as usize);
    let squared_norms = HostKernel::new("squared_norms", move |memory| {
        let (vectors, norms) = (memory.read::<f32>(0), memory.write::<f32>(1));
        for (norm, vector) in norms.iter_mut().zip(vectors.chunks_exact(d)) {
            *norm = dot(vector, vector);
        }
    })
    .reads(batch.vectors.device_address(), batch.vectors.size_bytes())
    .writes(batch.norms.device_address(), batch.norms.size_bytes())
    .operations(2 * (n * d) as u64);
    // SAFETY: the ranges are the buffers', which live until the results have been read.
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
    .reads(batch.vectors.device_address(), batch.vectors.size_bytes())
    .reads(batch.norms.device_address(), batch.norms.size_bytes())
    .writes(batch.index.device_address(), batch.index.size_bytes())
    .writes(batch.similarity.device_address(), batch.similarity.size_bytes())
    .operations(2 * (n * n * d) as u64);
    // SAFETY: as above.
    unsafe { stream.launch_host(nearest) }?;
    Ok(())
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums, so that the compiler may use vector instructions; on these integers every order is exact.
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
