//! Automatic prefetch, compared with page faults and with resident pages, for several orders of use.
//!
//! ```console
//! $ cargo run --release --example auto_prefetch
//! $ cargo run --release --example auto_prefetch -- --slab-mib 32 --slabs 32 --repeat 5    # for a GPU
//! ```
//!
//! The pages of a buffer start on the host. A stencil works on the buffer slab by slab, and the host waits for the end.
//! Times are medians. The hidden part of the fault stall is `(t_faulting - t_auto) / (t_faulting - t_resident)`. Times
//! on a simulated device are simulated.

mod common;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use cumem::kernel::{Function, HostKernel, KernelArg, LaunchConfig, Module};
use cumem::unified::{AutoPrefetchOptions, hints};
use cumem::{Buffer, CudaResource, Device, ManagedResource, Stream, UnifiedBuffer};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PTX: &str = include_str!("kernels/stencil.ptx");
const CONFIG: LaunchConfig = LaunchConfig::new((528, 1, 1), (256, 1, 1));
const THREADS: usize = 528 * 256;

/// Compares automatic prefetch with page faults and with resident pages, for several orders of use.
#[derive(Parser)]
#[command(name = "auto_prefetch")]
struct Args {
    /// The device: a GPU, the simulated one, or a GPU if there is one.
    #[arg(long, value_parser = ["auto", "cuda", "sim"], default_value = "auto")]
    device: String,
    /// Size of a slab in MiB.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=128))]
    slab_mib: u32,
    /// Number of slabs. All slabs together may take 4 GiB.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slabs: u32,
    /// Steps of the stencil for each element; they determine how long the work on a slab takes.
    #[arg(long, default_value_t = 3000)]
    rounds: u32,
    /// Number of runs, of which the median is printed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

impl Args {
    /// Refuses more than 4 GiB of slabs.
    fn check(&self) -> Result<(), clap::Error> {
        if self.slab_mib * self.slabs <= 4 << 10 {
            return Ok(());
        }
        let message = format!("{} slabs of {} MiB are larger than 4 GiB together", self.slabs, self.slab_mib);
        Err(Self::command().error(ErrorKind::ValueValidation, message))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Faulting,
    Auto,
    Resident,
    /// The pages are resident, and automatic prefetch observes the buffer.
    Observed,
}

struct Bench {
    device: Device,
    stream: Stream,
    kernels: Option<(Function, Function)>,
    buffer: UnifiedBuffer<f32, ManagedResource>,
    out: Buffer<f32, CudaResource>,
    slab: usize,
    rounds: u32,
}

impl Bench {
    /// Creates the buffers: `slabs` slabs of `slab` elements.
    fn new(device: Device, slab: usize, slabs: usize, rounds: u32) -> Result<Self, Box<dyn Error>> {
        let stream = Stream::new(&device)?;
        let kernels = match device.is_simulated() {
            true => None,
            false => {
                let module = Module::from_ptx(&device, PTX)?;
                Some((module.function("stencil")?, module.function("gather")?))
            }
        };
        let buffer = UnifiedBuffer::zeroed(slab * slabs, &stream, ManagedResource::new(&device)?)?;
        let out = Buffer::zeroed(slab.max(THREADS), &stream, CudaResource::new(&device))?;
        Ok(Self { device, stream, kernels, buffer, out, slab, rounds })
    }

    /// Returns the time of one run over the slabs in `order`, and the report of automatic prefetch.
    fn run(&mut self, order: &[usize], way: Way) -> Result<(Duration, String), Box<dyn Error>> {
        self.buffer.host_write()?.iter_mut().step_by(1024).for_each(|x| *x += 1.0);
        if matches!(way, Way::Resident | Way::Observed) {
            let _ = self.buffer.prefetch(self.device.id())?;
        }
        if matches!(way, Way::Auto | Way::Observed) {
            let _ = self.buffer.auto_prefetch(AutoPrefetchOptions::default())?;
        }
        self.device.synchronize()?;
        let start = self.now();
        for slab in order {
            let part = self.buffer.device_use(slab * self.slab..(slab + 1) * self.slab)?;
            self.stencil(part.device_address())?;
        }
        self.stream.synchronize()?;
        let time = self.now().since(start);
        let report = self.buffer.stop_auto_prefetch().map(|report| report.to_string());
        Ok((time, report.unwrap_or_default()))
    }

    /// Returns the time of random reads over the whole buffer, which are declared as sparse uses.
    fn run_sparse(&mut self, launches: u32, way: Way) -> Result<Duration, Box<dyn Error>> {
        self.buffer.host_write()?.iter_mut().step_by(1024).for_each(|x| *x += 1.0);
        if way == Way::Auto {
            let _ = self.buffer.auto_prefetch(AutoPrefetchOptions::default())?;
        }
        self.device.synchronize()?;
        let start = self.now();
        for launch in 0..launches {
            let part = self.buffer.sparse_device_use(0..self.buffer.len())?;
            self.gather(part.device_address(), u64::from(launch))?;
        }
        self.stream.synchronize()?;
        let time = self.now().since(start);
        self.buffer.stop_auto_prefetch();
        Ok(time)
    }

    fn stencil(&self, from: u64) -> Result<(), Box<dyn Error>> {
        let (to, n) = (self.out.device_address(), self.slab);
        if let Some((stencil, _)) = &self.kernels {
            let args =
                [KernelArg::new(from), KernelArg::new(to), KernelArg::new(n as u64), KernelArg::new(self.rounds)];
            // SAFETY: the arguments are those of the kernel. Both ranges hold a slab and stay allocated until the wait
            // for the stream.
            return Ok(unsafe { self.stream.launch_kernel(stencil, CONFIG, &args) }?);
        }
        let kernel = HostKernel::new("stencil", |_| ()).reads(from, 4 * n).writes(to, 4 * n);
        let kernel = kernel.operations(4 * n as u64 * u64::from(self.rounds));
        // SAFETY: as above.
        Ok(unsafe { self.stream.launch_host(kernel) }?)
    }

    fn gather(&self, from: u64, seed: u64) -> Result<(), Box<dyn Error>> {
        let (to, n) = (self.out.device_address(), self.buffer.len());
        let reads = 16_u32;
        if let Some((_, gather)) = &self.kernels {
            let args = [
                KernelArg::new(from),
                KernelArg::new(to),
                KernelArg::new(n as u64),
                KernelArg::new(reads),
                KernelArg::new(seed * THREADS as u64),
            ];
            // SAFETY: the arguments are the kernel's, which writes an element for each thread; the memory lives until
            // the stream is waited for.
            return Ok(unsafe { self.stream.launch_kernel(gather, CONFIG, &args) }?);
        }
        let touches = cumem::kernel::Pattern::Random { seed, touches: 1000 };
        let kernel = HostKernel::new("gather", |_| ()).reads(from, 4 * n).in_order(touches);
        // SAFETY: as above.
        Ok(unsafe { self.stream.launch_host(kernel) }?)
    }

    fn now(&self) -> Now {
        match self.device.simulator() {
            Some(simulator) => Now::Virtual(simulator.clock()),
            None => Now::Host(Instant::now()),
        }
    }
}

/// A time on the host's clock, or on the virtual clock of a simulated device.
#[derive(Clone, Copy)]
enum Now {
    Host(Instant),
    Virtual(Duration),
}

impl Now {
    fn since(self, start: Self) -> Duration {
        match (self, start) {
            (Self::Host(now), Self::Host(start)) => now - start,
            (Self::Virtual(now), Self::Virtual(start)) => now - start,
            _ => Duration::ZERO,
        }
    }
}

fn median(repeat: u32, mut run: impl FnMut() -> Result<Duration, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut times = (0..repeat).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e3)
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    args.check()?;
    let device = match args.device.as_str() {
        "cuda" => Device::open(0)?,
        "sim" => Device::simulated(cumem::sim::Profile::default())?,
        _ => Device::first_or_simulated()?,
    };
    let (slab, slabs) = ((args.slab_mib as usize) << 18, args.slabs as usize);
    let mut bench = Bench::new(device, slab, slabs, args.rounds)?;

    let simulated = if bench.device.is_simulated() { ", simulated times" } else { "" };
    println!("device  {}{simulated}", bench.device);
    println!("input   {slabs} slabs of {} MiB, {} rounds; medians of {}, ms", args.slab_mib, args.rounds, args.repeat);
    println!(
        "\n{:<16} {:>11} {:>9} {:>11} {:>9} {:>10}",
        "order", "t_faulting", "t_auto", "t_resident", "hidden", "observed"
    );
    let shuffled = {
        let mut random = 7_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize
        };
        let mut order: Vec<_> = (0..slabs).collect();
        (1..slabs).rev().for_each(|i| order.swap(i, next() % (i + 1)));
        order
    };
    let orders = [
        ("line", (0..slabs).collect::<Vec<_>>()),
        ("strided", (0..4).flat_map(|first| (first..slabs).step_by(4)).collect()),
        ("downwards", (0..slabs).rev().collect()),
        ("random", shuffled),
    ];
    for (name, order) in &orders {
        let mut report = String::new();
        let mut time = |way| {
            median(args.repeat, || {
                let (time, said) = bench.run(order, way)?;
                if way == Way::Auto {
                    report = said;
                }
                Ok(time)
            })
        };
        time(Way::Resident)?; // the first run is not counted
        let (faulting, auto) = (time(Way::Faulting)?, time(Way::Auto)?);
        let (resident, observed) = (time(Way::Resident)?, time(Way::Observed)?);
        // A share of a stall near zero has no meaning.
        let hidden = match faulting - resident {
            stall if stall < resident / 50.0 => "no stall".into(),
            stall => format!("{:.1} %", (faulting - auto) / stall * 100.0),
        };
        println!("{name:<16} {faulting:>11.3} {auto:>9.3} {resident:>11.3} {hidden:>9} {observed:>10.3}   {report}");
    }
    let mut time = |way| median(args.repeat, || bench.run_sparse(8, way));
    time(Way::Faulting)?;
    let (faulting, auto) = (time(Way::Faulting)?, time(Way::Auto)?);
    println!(
        "{:<16} {faulting:>11.3} {auto:>9.3}   {:+.1} % against faulting",
        "sparse reads",
        (auto / faulting - 1.0) * 100.0
    );
    pieces(&mut bench)
}

/// How long prefetch calls hold the host, by the bytes of one call.
fn pieces(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    println!("\nprefetch of all to the device in pieces: the calls, and all");
    let all = bench.buffer.size_bytes();
    for mib in [2, 8, 32, 128] {
        let piece = mib << 20;
        bench.buffer.host_write()?.iter_mut().step_by(1024).for_each(|x| *x += 1.0);
        let start = bench.now();
        for at in (0..all).step_by(piece) {
            let bytes = at..all.min(at + piece);
            let _ = hints::prefetch(bench.buffer.block(), bytes, bench.device.id(), &bench.stream)?;
        }
        let calls = bench.now().since(start);
        bench.stream.synchronize()?;
        let total = bench.now().since(start);
        let rate = all as f64 / total.as_secs_f64() / 1e9;
        println!(
            "{mib:>5} MiB  {:>9.3} ms  {:>9.3} ms  {rate:>5.1} GB/s",
            calls.as_secs_f64() * 1e3,
            total.as_secs_f64() * 1e3
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem::sim::{Profile, faults};

    #[test]
    fn slabs_of_more_than_4_gib_are_a_usage_error() {
        let check = |arguments: [&str; 5]| Args::parse_from(arguments).check();
        assert!(check(["", "--slab-mib", "128", "--slabs", "32"]).is_ok());
        assert_eq!(check(["", "--slab-mib", "128", "--slabs", "33"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn every_driver_call_may_fail() {
        let report = faults::enumerate(&Profile::default(), |device| {
            let mut bench = Bench::new(device.clone(), 1 << 18, 6, 100)?;
            for way in [Way::Faulting, Way::Auto, Way::Resident, Way::Observed] {
                bench.run(&[0, 1, 2, 3, 4, 5, 0, 1, 3], way)?;
            }
            bench.run_sparse(4, Way::Auto)?;
            pieces(&mut bench)
        });
        report.assert();
    }
}
