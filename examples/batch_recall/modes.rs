//! The ways to get the batches to the device.

use crate::batches::Batches;
use crate::kernels::{Addresses, Kernels};
use cumem_adaptors::cumem::unified::{Advice, AutoPrefetchOptions, AutoPrefetchReport, hints};
use cumem_adaptors::cumem::{AnyResource, Buffer, CudaResource, Location, PinnedResource, Stream, UnifiedBuffer, kind};
use std::error::Error;
use std::time::{Duration, Instant};

/// A way to get the batches to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Copies from pinned memory to plain device memory, one batch after the other.
    Explicit,
    /// Managed memory without any hint.
    Naive,
    /// Managed memory with advice: the vectors are read-mostly; the results have the device as preferred location.
    Advised,
    /// Managed memory. The program prefetches the next batch during the work on the current one.
    Prefetched,
    /// Managed memory with automatic prefetch.
    Automatic,
    /// Managed memory whose pages are on the device already: the time of the work without any migration.
    Resident,
}

impl Mode {
    pub(crate) const ALL: [Self; 6] =
        [Self::Explicit, Self::Naive, Self::Advised, Self::Prefetched, Self::Automatic, Self::Resident];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit copies",
            Self::Naive => "naive managed",
            Self::Advised => "advised",
            Self::Prefetched => "prefetched",
            Self::Automatic => "automatic",
            Self::Resident => "resident",
        }
    }
}

/// The results of a mode.
pub(crate) struct Run {
    pub(crate) mode: Mode,
    /// Time from the first batch until the results of the last batch are on the host.
    pub(crate) time: Duration,
    /// Page faults, if the device is simulated.
    pub(crate) faults: Option<u64>,
    pub(crate) auto: Option<AutoPrefetchReport>,
    pub(crate) index: Vec<u32>,
    pub(crate) mean_similarity: f32,
}

/// The input of all modes.
pub(crate) struct Job<'a> {
    pub(crate) batches: &'a Batches,
    pub(crate) kernels: &'a Kernels,
    pub(crate) stream: &'a Stream,
    pub(crate) stack: &'a AnyResource<kind::Managed>,
}

type Vectors = UnifiedBuffer<f32>;

impl Job<'_> {
    pub(crate) fn run(&self, mode: Mode) -> Result<Run, Box<dyn Error>> {
        let (all, stream) = (self.batches, self.stream);
        let results = all.batches * all.count;
        let norms = UnifiedBuffer::<f32>::zeroed(all.count, stream, self.stack.clone())?;
        let index = UnifiedBuffer::<u32>::zeroed(results, stream, self.stack.clone())?;
        let similarity = UnifiedBuffer::<f32>::zeroed(results, stream, self.stack.clone())?;
        let launch = |batch: usize, vectors: u64| {
            let offset = (batch * all.count * size_of::<u32>()) as u64;
            let addresses = Addresses {
                vectors,
                norms: norms.device_address(),
                index: index.device_address() + offset,
                similarity: similarity.device_address() + offset,
                count: all.count as u32,
                dimensions: all.dimensions as u32,
            };
            // SAFETY: each buffer holds a batch, or the results of all batches, and lives until the results are read.
            unsafe { self.kernels.launch(addresses, stream) }
        };
        let (time, faults, auto);
        if mode == Mode::Explicit {
            let mut source = Buffer::<f32, _>::zeroed(all.vectors.len(), stream, PinnedResource::new(stream.device()))?;
            source.host_write()?.copy_from_slice(&all.vectors);
            let source = source.host_read()?;
            let mut target = Buffer::<f32, _>::zeroed(all.elements(), stream, CudaResource::new(stream.device()))?;
            let clock = Clock::start(stream)?;
            for batch in 0..all.batches {
                target.copy_from_slice(&source[batch * all.elements()..][..all.elements()])?;
                launch(batch, target.device_address())?;
            }
            let read = index.host_read()?;
            (time, faults, auto) = (clock.time(stream), clock.faults(stream), None);
            drop(read);
        } else {
            let mut vectors = Vectors::zeroed(all.vectors.len(), stream, self.stack.clone())?;
            vectors.host_write()?.copy_from_slice(&all.vectors);
            match mode {
                Mode::Resident => drop(vectors.prefetch(stream.device_id())?),
                Mode::Automatic => drop(vectors.auto_prefetch(AutoPrefetchOptions::default())?),
                Mode::Advised => {
                    let _ = vectors.advise(Advice::SetReadMostly)?;
                    let _ = index.advise(Advice::SetPreferredLocation(stream.device_id().into()))?;
                }
                Mode::Explicit | Mode::Naive | Mode::Prefetched => {}
            }
            let ahead = Stream::new(stream.device())?;
            let clock = Clock::start(stream)?;
            for batch in 0..all.batches {
                let elements = batch * all.elements()..(batch + 1) * all.elements();
                if mode == Mode::Prefetched {
                    let bytes = elements.start * 4..elements.end * 4;
                    let _ = hints::prefetch(vectors.block(), bytes, stream.device_id(), &ahead)?;
                    stream.wait_for(&ahead)?;
                }
                let part = vectors.device_use(elements)?;
                launch(batch, part.device_address())?;
            }
            if mode != Mode::Naive {
                let _ = index.prefetch(Location::Host)?;
            }
            let read = index.host_read()?;
            (time, faults, auto) = (clock.time(stream), clock.faults(stream), vectors.auto_prefetch_report());
            drop(read);
        }
        let mean_similarity = similarity.host_read()?.iter().sum::<f32>() / results as f32;
        let index = index.host_read()?.to_vec();
        Ok(Run { mode, time, faults, auto, index, mean_similarity })
    }
}

/// Returns the time of the host's clock, or the virtual time of a simulated device.
struct Clock {
    host: Instant,
    virtual_time: Option<Duration>,
    faults: u64,
}

impl Clock {
    fn start(stream: &Stream) -> Result<Self, Box<dyn Error>> {
        stream.device().synchronize()?;
        let virtual_time = stream.device().simulator().map(|simulator| simulator.clock());
        Ok(Self { host: Instant::now(), virtual_time, faults: faults(stream).unwrap_or_default() })
    }

    fn time(&self, stream: &Stream) -> Duration {
        match (self.virtual_time, stream.device().simulator()) {
            (Some(start), Some(simulator)) => simulator.clock() - start,
            _ => self.host.elapsed(),
        }
    }

    fn faults(&self, stream: &Stream) -> Option<u64> {
        faults(stream).map(|faults| faults - self.faults)
    }
}

fn faults(stream: &Stream) -> Option<u64> {
    let simulator = stream.device().simulator()?;
    simulator.statistics(stream.device_id()).map(|statistics| statistics.faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits::Digits;
    use cumem_adaptors::cumem::sim::{Profile, Simulator, faults};
    use cumem_adaptors::cumem::{Device, LayerExt};
    use cumem_adaptors::{AnyStack, StackSpec, StatisticsState};

    fn run(device: &Device, batches: &Batches, mode: Mode) -> Result<Vec<u32>, Box<dyn Error>> {
        let spec = StackSpec::parse("managed | pool | limit(80%) | statistics | prefetch")?;
        let AnyStack::OverManaged(stack) = spec.build(device)? else { unreachable!("it stands on `managed`") };
        let (stream, kernels) = (Stream::new(device)?, Kernels::load(device)?);
        let found = Job { batches, kernels: &kernels, stream: &stream, stack: &stack }.run(mode);
        assert_eq!(stack.find::<StatisticsState>().map(|counters| counters.counts().current_blocks), Some(0));
        Ok(found?.index)
    }

    #[test]
    fn every_driver_call_may_fail_in_every_mode() {
        let batches = Batches::of_digits(&Digits::read().unwrap().first(50), 2);
        let simulator = Simulator::new([Profile::default()]).unwrap();
        simulator.detect_races(true);
        let expected = run(&Device::of_simulator(&simulator, 0).unwrap(), &batches, Mode::Naive).unwrap();
        for mode in Mode::ALL {
            let found = run(&Device::of_simulator(&simulator, 0).unwrap(), &batches, mode).unwrap();
            assert_eq!((found == expected, simulator.take_races()), (true, Vec::new()), "{mode:?}");
            let report = faults::enumerate(&Profile::default(), |device| {
                run(device, &batches, mode).map(|found| assert_eq!(found, expected))
            });
            report.assert();
        }
    }
}
