//! The job on simulated devices that are too small for the data: the cost, and ways to reduce it.
//!
//! The data is a table of vectors that the host writes. Queries read the whole table several times, and each pass finds
//! the nearest vector of another digit than the query. With a limit, the table passes through device memory in pieces.
//! The pieces are halved until they fit, as in an application that never oversubscribes.

use crate::digits::Digits;
use crate::exact;
use crate::kernels::dot;
use crate::plot;
use cumem_adaptors::cumem::kernel::HostKernel;
use cumem_adaptors::cumem::sim::{DeviceStatistics, Profile, Provenance};
use cumem_adaptors::cumem::unified::Advice;
use cumem_adaptors::cumem::{AllocError, AnyResource, Device, DeviceError, LayerExt, Stream, UnifiedBuffer, kind};
use cumem_adaptors::{AnyStack, StackSpec};
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

type Stack = AnyResource<kind::Managed>;

/// Bytes of memory of the device.
const CAPACITY: usize = 40 << 20;
/// Sizes of all buffers together, in percent of the device's memory.
pub(crate) const SIZES: [usize; 6] = [50, 80, 100, 110, 125, 200];
const QUERIES: usize = 8;
const PASSES: usize = 3;
/// Bytes for the queries and their answers.
const ROOM: usize = 64 << 10;

/// The measures that a way takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// The table is prefetched before each pass.
    pub(crate) prefetch: bool,
    /// The table is read-mostly.
    pub(crate) advice: bool,
    /// The stack may allocate at most 80 % of the device's memory.
    pub(crate) limit: bool,
}

impl Way {
    pub(crate) const ALL: [Self; 8] = {
        let mut all = [Self { prefetch: false, advice: false, limit: false }; 8];
        let mut i = 0;
        while i < all.len() {
            all[i] = Self { limit: i & 4 != 0, advice: i & 2 != 0, prefetch: i & 1 != 0 };
            i += 1;
        }
        all
    };

    pub(crate) fn name(self) -> String {
        let words = [(self.prefetch, "prefetch"), (self.advice, "read-mostly"), (self.limit, "limit")];
        let used: Vec<_> = words.into_iter().filter(|(used, _)| *used).map(|(_, word)| word).collect();
        if used.is_empty() { "nothing".into() } else { used.join(" + ") }
    }
}

/// The figures of one way at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) percent: usize,
    pub(crate) way: Way,
    pieces: usize,
    /// Virtual time of all passes.
    pub(crate) ns: u64,
    statistics: DeviceStatistics,
}

/// Runs all sizes and all ways, prints a table, and writes a plot if `plot` names a file.
pub(crate) fn compare(digits: &Digits, plot: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let mib = CAPACITY >> 20;
    println!("{PASSES} passes of {QUERIES} queries over a table of vectors, on simulated devices of {mib} MiB");
    println!("{}\n", trust(&Profile::tiny(CAPACITY as u64)));
    let figures = all(digits, CAPACITY, &SIZES)?;
    print!("{}", table(&figures));
    println!("\ncheck   each way at each size found the neighbours that exact integer arithmetic finds");
    if let Some(path) = plot {
        std::fs::write(path, plot::svg(&figures))?;
        println!("plot    {}", path.display());
    }
    Ok(())
}

/// Prints the conclusions that the numbers permit, and those that they do not.
fn trust(profile: &Profile) -> String {
    let figures = profile.figures();
    let count = |p: Provenance| figures.iter().filter(|(_, _, figure)| figure.provenance == p).count();
    format!(
        "simulated: faults, pages and evictions follow the driver's rules, times its costs, of which {} were measured within the \
         capacity of an H100, {} are from NVIDIA, {} scaled, {} guessed; nothing was measured beyond the capacity",
        count(Provenance::Measured),
        count(Provenance::FromSource),
        count(Provenance::Scaled),
        count(Provenance::Uncalibrated)
    )
}

fn all(digits: &Digits, capacity: usize, sizes: &[usize]) -> Result<Vec<Figures>, Box<dyn Error>> {
    let neighbours = exact::nearest_neighbours(&digits.vectors(), digits.dimensions());
    let mut all = Vec::new();
    for &percent in sizes {
        let table = table_of(digits, capacity * percent / 100);
        for way in Way::ALL {
            let (figures, found) = one(digits, &table, capacity, percent, way)?;
            if found != neighbours[..QUERIES] {
                let name = way.name();
                return Err(
                    format!("{name} at {percent} %: found {found:?}, expected {:?}", &neighbours[..QUERIES]).into()
                );
            }
            all.push(figures);
        }
    }
    Ok(all)
}

/// Repeats the digits until all buffers together have `bytes` bytes.
fn table_of(digits: &Digits, bytes: usize) -> Vec<f32> {
    let of_one = (digits.dimensions() + 1) * size_of::<f32>();
    // A multiple of each number of pieces that halving can give.
    let count = (bytes - ROOM) / of_one / 64 * 64;
    digits.vectors().into_iter().cycle().take(count * digits.dimensions()).collect()
}

/// The buffers on the device.
struct Buffers {
    vectors: UnifiedBuffer<f32>,
    norms: UnifiedBuffer<f32>,
    queries: UnifiedBuffer<f32>,
    /// The index of the best vector so far, and its rank.
    best: UnifiedBuffer<u32>,
    rank: UnifiedBuffer<f64>,
}

impl Buffers {
    fn new(count: usize, digits: &Digits, stream: &Stream, stack: &Stack) -> Result<Self, AllocError> {
        let d = digits.dimensions();
        Ok(Self {
            vectors: UnifiedBuffer::zeroed(count * d, stream, stack.clone())?,
            norms: UnifiedBuffer::zeroed(count, stream, stack.clone())?,
            queries: UnifiedBuffer::from_slice(&digits.vectors()[..QUERIES * d], stream, stack.clone())?,
            best: UnifiedBuffer::zeroed(QUERIES, stream, stack.clone())?,
            rank: UnifiedBuffer::zeroed(QUERIES, stream, stack.clone())?,
        })
    }
}

fn one(
    digits: &Digits,
    table: &[f32],
    capacity: usize,
    percent: usize,
    way: Way,
) -> Result<(Figures, Vec<u32>), Box<dyn Error>> {
    let device = Device::simulated(Profile::tiny(capacity as u64))?;
    let (stream, d) = (Stream::new(&device)?, digits.dimensions());
    let bytes = capacity * percent / 100;
    let stack = match way.limit {
        false => format!("managed | pool(initial={bytes})"),
        // Pools round sizes up to 256 bytes.
        true => format!("managed | limit(80%) | pool(initial={})", bytes.min(capacity * 80 / 100 / 256 * 256)),
    };
    let AnyStack::OverManaged(stack) = StackSpec::parse(&stack)?.build(&device)? else {
        unreachable!("it stands on `managed`")
    };
    let count = table.len() / d;
    let mut pieces = 1;
    let mut buffers = loop {
        match Buffers::new(count / pieces, digits, &stream, &stack) {
            Ok(buffers) => break buffers,
            Err(error) if error.is_out_of_memory() && pieces < 64 => pieces *= 2,
            Err(error) => return Err(error.into()),
        }
    };
    if way.advice {
        let _ = buffers.vectors.advise(Advice::SetReadMostly)?;
    }
    if pieces == 1 {
        buffers.vectors.host_write()?.copy_from_slice(table);
    }

    let simulator = stack.device().simulator().ok_or("the device is simulated")?;
    let before = (simulator.clock(), simulator.statistics(device.id()).unwrap_or_default());
    for _ in 0..PASSES {
        for (piece, vectors) in table.chunks_exact(table.len() / pieces).enumerate() {
            if pieces > 1 {
                buffers.vectors.copy_from_slice(vectors)?;
            }
            if way.prefetch {
                let _ = buffers.vectors.prefetch(device.id())?;
            }
            search(&buffers, piece * (count / pieces), digits, &stream)?;
        }
        stream.synchronize()?;
    }
    let ns = (simulator.clock() - before.0).as_nanos() as u64;
    let statistics = difference(simulator.statistics(device.id()).unwrap_or_default(), before.1);
    let found = buffers.best.host_read()?.iter().map(|index| index % digits.len() as u32).collect();
    Ok((Figures { percent, way, pieces, ns, statistics }, found))
}

/// Returns the counts between two moments. Peaks and counts that are not shown are left unchanged.
fn difference(mut now: DeviceStatistics, before: DeviceStatistics) -> DeviceStatistics {
    now.faults -= before.faults;
    now.migrated_to_device -= before.migrated_to_device;
    now.migrated_to_host -= before.migrated_to_host;
    now.copied_to_device -= before.copied_to_device;
    now.evictions -= before.evictions;
    now
}

/// Finds for each query the nearest vector of another digit, in this piece or an earlier one. The piece starts at
/// vector `base`.
fn search(buffers: &Buffers, base: usize, digits: &Digits, stream: &Stream) -> Result<(), DeviceError> {
    let (n, d) = (digits.len(), digits.dimensions());
    let Buffers { vectors, norms, queries, best, rank } = buffers;
    let squared_norms = HostKernel::new("squared_norms", move |memory| {
        let (vectors, norms) = (memory.read::<f32>(0), memory.write::<f32>(1));
        for (norm, vector) in norms.iter_mut().zip(vectors.chunks_exact(d)) {
            *norm = dot(vector, vector);
        }
    });
    let squared_norms = squared_norms
        .reads(vectors.device_address(), vectors.size_bytes())
        .writes(norms.device_address(), norms.size_bytes())
        .in_flight(256)
        .operations(2 * vectors.len() as u64);
    // SAFETY: the ranges are those of the buffers, which live until the results have been read.
    unsafe { stream.launch_host(squared_norms) }?;

    let nearest = HostKernel::new("nearest_neighbours", move |memory| {
        let (vectors, norms, queries) = (memory.read::<f32>(0), memory.read::<f32>(1), memory.read::<f32>(2));
        let (best, rank) = (memory.write::<u32>(3), memory.write::<f64>(4));
        for (q, query) in queries.chunks_exact(d).enumerate() {
            if base == 0 {
                rank[q] = f64::NEG_INFINITY;
            }
            for (j, candidate) in vectors.chunks_exact(d).enumerate().filter(|(j, _)| (base + j) % n != q) {
                let dot = f64::from(dot(query, candidate));
                let candidate = if norms[j] == 0.0 { 0.0 } else { dot * dot / f64::from(norms[j]) };
                if candidate > rank[q] {
                    (best[q], rank[q]) = ((base + j) as u32, candidate);
                }
            }
        }
    });
    let nearest = nearest
        .reads(vectors.device_address(), vectors.size_bytes())
        .reads(norms.device_address(), norms.size_bytes())
        .reads(queries.device_address(), queries.size_bytes())
        .writes(best.device_address(), best.size_bytes())
        .writes(rank.device_address(), rank.size_bytes())
        .in_flight(256)
        .operations(2 * (QUERIES * vectors.len()) as u64);
    // SAFETY: as above.
    unsafe { stream.launch_host(nearest) }
}

fn table(figures: &[Figures]) -> String {
    let mut text = String::new();
    let mut percent = 0;
    for Figures { percent: size, way, pieces, ns, statistics } in figures {
        if percent != *size {
            percent = *size;
            let heads = ["pieces", "time", "faults", "to device", "copied", "to host", "evictions"];
            let heads: Vec<_> = heads.iter().map(|head| format!("{head:>11}")).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<32}{}", format!("{size} % of the device"), heads.concat());
        }
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let _ = writeln!(
            text,
            "  {:<30}{pieces:>11}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}",
            way.name(),
            format!("{:.2} ms", *ns as f64 / 1e6),
            statistics.faults,
            mib(statistics.migrated_to_device),
            mib(statistics.copied_to_device),
            mib(statistics.migrated_to_host),
            statistics.evictions
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_at_every_size_finds_the_same_and_repeats() {
        let digits = Digits::read().unwrap().first(100);
        let (capacity, sizes) = (4 << 20, [80, 125]);
        let figures = all(&digits, capacity, &sizes).unwrap();
        assert_eq!(figures.len(), sizes.len() * Way::ALL.len());
        let data = table_of(&digits, capacity * 125 / 100);
        let last = one(&digits, &data, capacity, 125, Way::ALL[7]).unwrap().0;
        assert_eq!(figures.last(), Some(&last));
        for Figures { percent, way, pieces, statistics, .. } in &figures {
            // With the limit nothing is evicted; without it the table is one piece.
            assert_eq!(*pieces > 1, way.limit && *percent > 80, "{percent} % {way:?}");
            assert_eq!(statistics.evictions > 0, *percent > 100 && !way.limit, "{percent} % {way:?}: {statistics:?}");
        }
        let (text, picture) = (table(&figures), plot::svg(&figures));
        assert_eq!(text.lines().count(), sizes.len() * (Way::ALL.len() + 1), "{text}");
        assert_eq!(picture.matches("<polyline").count(), Way::ALL.len(), "{picture}");
        assert!(picture.contains("simulated"), "{picture}");
    }
}
