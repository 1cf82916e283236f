//! Experiments 1 to 7, 17 and 22: counts that the driver's rules determine.

use crate::rig::{BLOCK, KIB, MIB, Outcome, PAGE, Rig, Unified, out_of_memory};
use crate::table::{Basis, Experiment, Row};
use crate::trace::{Totals, Trace};
use cumem::kernel::AccessMode;
use cumem::sim::{Profile, Simulator};
use cumem::unified::Advice;
use cumem::{Device, Location};
use std::time::Duration;

const DRIVER: &str = "nvidia-uvm 595.45.04";

fn exact(number: u8, source: &'static str) -> Experiment {
    Experiment::new(number, Basis::Exact, 0.0, source)
}

fn tiny(blocks: usize) -> Outcome<Rig> {
    Rig::new(Profile::tiny((blocks * BLOCK) as u64))
}

pub(crate) fn rows() -> Outcome<Vec<Row>> {
    let experiments =
        [golden()?, tails()?, first_touch()?, policy()?, victims()?, thrashing()?, plain()?, cyclic()?, read_mostly()?];
    Ok(experiments.into_iter().flat_map(Experiment::rows).collect())
}

fn golden() -> Outcome<Experiment> {
    let mut experiment = exact(1, "nvprof listings of UVMSmart's micro-benchmarks, GTX 1080 Ti");
    for (name, text, counts) in [
        ("P1", include_str!("../data/uvm/p1.csv"), [6.0, 12.0, 12.0, 13.0]),
        ("P2", include_str!("../data/uvm/p2.csv"), [6.0, 13.0, 12.0, 12.0]),
        ("P3", include_str!("../data/uvm/p3.csv"), [7.0, 17.0, 13.0, 16.0]),
    ] {
        let totals = Totals::of(&Trace::parse(text)?.run(Profile::gtx1080ti())?);
        let found = [totals.gpu_faults, totals.h2d_transfers, totals.cpu_faults, totals.d2h_transfers];
        let what =
            ["faults of the device", "transfers to it", "faults of the host, its fill included", "transfers back"];
        for ((what, expected), found) in what.into_iter().zip(counts).zip(found) {
            experiment = experiment.row(format!("{name}: {what}"), expected, found as f64);
        }
    }
    Ok(experiment)
}

fn tails() -> Outcome<Experiment> {
    let rig = Rig::new(Profile::gtx1080ti())?;
    let bytes = BLOCK + 168 * KIB;
    let buffer = rig.unified(bytes)?;
    rig.host(&buffer, 0..bytes, AccessMode::Write)?;
    let fill = rig.statistics().host_faults;
    rig.device(&buffer, 0..BLOCK, AccessMode::Read)?;
    let beyond = rig.at(&buffer, BLOCK..bytes, rig.here());
    rig.device(&buffer, BLOCK..bytes, AccessMode::Read)?;
    let moved = rig.statistics().migrated_to_device as usize - BLOCK;
    Ok(exact(2, "claim of UVMSmart's micro-benchmarks; two more recorded sequences are kept apart")
        .row("2 MiB + 168 KiB: faults of a fill", 9.0, fill as f64)
        .row("bytes of the tail that come with the block before it", 0.0, beyond as f64)
        .row("KiB of the tail, rounded up to 64 KiB x 2^i", 256.0, (moved / KIB) as f64))
}

fn first_touch() -> Outcome<Experiment> {
    let rig = tiny(8)?;
    let buffer = rig.unified(2 * BLOCK)?;
    rig.device(&buffer, 0..BLOCK, AccessMode::Write)?;
    let faults = rig.statistics().faults;
    let free = rig.device.memory_info()?.free;
    rig.device(&buffer, BLOCK..BLOCK + 1, AccessMode::Write)?;
    Ok(exact(3, DRIVER)
        .row("faults of a sequential touch of 2 MiB", 6.0, faults as f64)
        .row("KiB that come with one page", 64.0, (rig.at(&buffer, BLOCK..2 * BLOCK, rig.here()) / 1024) as f64)
        .row("MiB of device memory that it takes", 2.0, ((free - rig.device.memory_info()?.free) / MIB) as f64))
}

/// Whether a page of `start` is where it should be, after `advice` and an access.
fn goes(advice: &[Advice], start: Location, by_device: bool, mode: AccessMode, expected: &[Location]) -> Outcome<bool> {
    let simulator = Simulator::new([Profile::tiny(16 << 20), Profile::tiny(16 << 20)])?;
    let rig = Rig::on(Device::of_simulator(&simulator, 0)?)?;
    let buffer = rig.unified(BLOCK)?;
    // Names of the first device, for locations that were made for another machine.
    let here = |location| match location {
        Location::Device(id) => Location::Device(rig.device.id().sibling(id.ordinal())),
        host => host,
    };
    rig.prefetch(&buffer, 0..BLOCK, here(start))?;
    for advice in advice {
        rig.advise(
            &buffer,
            match *advice {
                Advice::SetPreferredLocation(at) => Advice::SetPreferredLocation(here(at)),
                Advice::SetAccessedBy(at) => Advice::SetAccessedBy(here(at)),
                other => other,
            },
        )?;
    }
    match by_device {
        true => rig.device(&buffer, 0..1, mode)?,
        false => rig.host(&buffer, 0..1, mode)?,
    }
    let all = [Location::Host, here(device(0)), here(device(1))];
    let expected: Vec<_> = expected.iter().map(|at| here(*at)).collect();
    Ok(all.iter().all(|at| (rig.at(&buffer, 0..1, *at) > 0) == expected.contains(at)))
}

fn device(ordinal: u32) -> Location {
    Location::Device(cumem::DeviceId::cuda(ordinal))
}

fn policy() -> Outcome<Experiment> {
    use AccessMode::{Read, Write};
    use Advice::{SetAccessedBy, SetPreferredLocation, SetReadMostly};
    let (host, here, other) = (Location::Host, device(0), device(1));
    let cases = [
        goes(&[], host, true, Read, &[here])?,
        goes(&[], here, false, Read, &[host])?,
        goes(&[SetReadMostly], host, true, Read, &[host, here])?,
        goes(&[SetReadMostly], host, true, Write, &[here])?,
        goes(&[SetPreferredLocation(host)], host, true, Write, &[host])?,
        goes(&[SetPreferredLocation(here)], host, true, Read, &[here])?,
        goes(&[SetPreferredLocation(other)], host, true, Write, &[other])?,
        goes(&[SetPreferredLocation(here)], here, false, Read, &[host])?,
        goes(&[SetAccessedBy(here)], host, true, Write, &[host])?,
        goes(&[SetAccessedBy(here), SetPreferredLocation(other)], host, true, Write, &[host])?,
        goes(&[SetPreferredLocation(host), SetAccessedBy(here), SetReadMostly], host, true, Read, &[host, here])?,
        goes(&[SetAccessedBy(here), SetPreferredLocation(here)], host, true, Read, &[here])?,
    ];
    let right = cases.iter().filter(|right| **right).count();
    let rig = tiny(4)?;
    let buffer = rig.unified(2 * BLOCK)?;
    rig.prefetch(&buffer, 0..BLOCK, rig.here())?;
    rig.host(&buffer, 0..BLOCK, Write)?;
    let told = |range| cumem::unified::hints::range_attributes(buffer.block(), range, &rig.stream);
    let kept = told(0..BLOCK)?.last_prefetch_location == Some(rig.here());
    let mixed = told(0..2 * BLOCK)?.last_prefetch_location.is_none();
    Ok(exact(4, DRIVER)
        .row("pages that migrate to the documented place, of 12 cases", 12.0, right as f64)
        .row("the last prefetch location is what was asked, not where pages are", 1.0, f64::from(kept))
        .row("and none where a range is mixed", 1.0, f64::from(mixed)))
}

fn victims() -> Outcome<Experiment> {
    let rig = tiny(4)?;
    let buffer = rig.unified(8 * BLOCK)?;
    let part = |i: usize| i * BLOCK..(i + 1) * BLOCK;
    let there = |i| rig.at(&buffer, part(i), rig.here()) > 0;
    for i in 0..4 {
        rig.prefetch(&buffer, part(i), rig.here())?;
    }
    // 0 is hit, 1 is prefetched again, 2 is discarded, 3 is emptied.
    rig.device(&buffer, part(0), AccessMode::Read)?;
    rig.prefetch(&buffer, part(1), rig.here())?;
    rig.simulator().discard(buffer.as_ptr().wrapping_add(2 * BLOCK), BLOCK)?;
    rig.prefetch(&buffer, part(3), Location::Host)?;
    rig.prefetch(&buffer, part(4), rig.here())?;
    let unused_first = there(2) && there(0);
    rig.prefetch(&buffer, part(5), rig.here())?;
    let discarded_next = !there(2) && there(0) && rig.statistics().evicted == 0;
    rig.prefetch(&buffer, part(6), rig.here())?;
    let hit_goes = !there(0) && there(1);
    Ok(exact(5, DRIVER)
        .row("a chunk without pages is evicted first", 1.0, f64::from(unused_first))
        .row("then a discarded one, without a copy", 1.0, f64::from(discarded_next))
        .row("then the one used longest ago: a hit does not refresh, a prefetch does", 1.0, f64::from(hit_goes)))
}

/// Host and device write one page in turn, half as long apart as the driver looks for.
fn fight(rig: &Rig, buffer: &Unified, times: usize) -> Outcome<()> {
    for i in 0..times {
        rig.simulator().pass_time(Duration::from_micros(100));
        match i % 2 {
            0 => rig.device(buffer, 0..1, AccessMode::Write)?,
            _ => rig.host(buffer, 0..1, AccessMode::Write)?,
        }
    }
    Ok(())
}

fn thrashing() -> Outcome<Experiment> {
    let rig = tiny(4)?;
    let buffer = rig.unified(BLOCK)?;
    rig.host(&buffer, 0..BLOCK, AccessMode::Write)?;
    fight(&rig, &buffer, 6)?;
    let before = rig.statistics().throttles;
    fight(&rig, &buffer, 1)?;
    let seventh = rig.statistics().throttles;
    rig.rest();
    fight(&rig, &buffer, 80)?;
    let after = rig.statistics();
    fight(&rig, &buffer, 40)?;
    let quiet = rig.statistics().faults - after.faults;
    rig.simulator().pass_time(Duration::from_millis(150));
    rig.device(&buffer, 0..1, AccessMode::Write)?;
    let again = rig.statistics().faults - after.faults;
    let preferred = tiny(4)?;
    let other = preferred.unified(BLOCK)?;
    preferred.host(&other, 0..BLOCK, AccessMode::Write)?;
    preferred.advise(&other, Advice::SetPreferredLocation(preferred.here()))?;
    fight(&preferred, &other, 60)?;
    Ok(exact(6, "nvidia-uvm 595.45.04, and an H100 with driver 580 (uvm_calibrate --fight)")
        .row("throttles of six migrations: the second starts the count, three events are free", 0.0, before as f64)
        .row("and of the seventh", 1.0, seventh as f64)
        .row("throttles until the page is pinned", 10.0, after.throttles as f64)
        .row("faults while it is pinned", 0.0, quiet as f64)
        .row("faults of the first access 150 ms later", 1.0, again as f64)
        .row("pins of a page that prefers the device", 0.0, preferred.statistics().pinned as f64))
}

fn plain() -> Outcome<Experiment> {
    let rig = tiny(4)?;
    let buffer = rig.unified(8 * BLOCK)?;
    rig.prefetch(&buffer, 0..4 * BLOCK, rig.here())?;
    let held = rig.plain(3 * BLOCK)?;
    let evictions = rig.statistics().evictions;
    rig.prefetch(&buffer, 0..8 * BLOCK, rig.here())?;
    let resident = rig.at(&buffer, 0..8 * BLOCK, rig.here()) / BLOCK as u64;
    let refused = out_of_memory(rig.plain(2 * BLOCK));
    let fits = rig.plain(BLOCK).is_ok();
    drop(held);
    Ok(exact(7, DRIVER)
        .row("chunks evicted for 6 MiB of plain memory on a full device of 8", 3.0, evictions as f64)
        .row("chunks that unified memory can have beside it", 1.0, resident as f64)
        .row("plain memory is out only when nothing unified is left", 2.0, f64::from(refused) + f64::from(fits)))
}

fn cyclic() -> Outcome<Experiment> {
    let misses = |blocks: usize| -> Outcome<f64> {
        let rig = tiny(16)?;
        let buffer = rig.unified(blocks * BLOCK)?;
        rig.device(&buffer, 0..blocks * BLOCK, AccessMode::Write)?;
        let before = rig.statistics().migrated_to_device;
        rig.device(&buffer, 0..blocks * BLOCK, AccessMode::Write)?;
        Ok((rig.statistics().migrated_to_device - before) as f64 / (blocks * BLOCK) as f64 * 100.0)
    };
    Ok(exact(17, DRIVER).row("cyclic scan of C blocks on C: percent that come again", 0.0, misses(16)?).row(
        "of C + 1 blocks",
        100.0,
        misses(17)?,
    ))
}

fn read_mostly() -> Outcome<Experiment> {
    let readers = 3;
    let simulator = Simulator::new(vec![Profile::tiny(4 * BLOCK as u64); readers])?;
    let rigs =
        (0..readers as u32).map(|d| Rig::on(Device::of_simulator(&simulator, d)?)).collect::<Outcome<Vec<_>>>()?;
    let buffer = rigs[0].unified(BLOCK)?;
    rigs[0].host(&buffer, 0..BLOCK, AccessMode::Write)?;
    rigs[0].advise(&buffer, Advice::SetReadMostly)?;
    let sum = |of: &dyn Fn(&Rig) -> u64| rigs.iter().map(of).sum::<u64>();
    for rig in &rigs {
        rig.device(&buffer, 0..BLOCK, AccessMode::Read)?;
    }
    let copied = sum(&|rig| rig.statistics().migrated_to_device + rig.statistics().migrated_from_peers);
    let faults = sum(&|rig| rig.statistics().faults);
    for rig in &rigs {
        rig.device(&buffer, 0..BLOCK, AccessMode::Read)?;
    }
    let later = sum(&|rig| rig.statistics().faults) - faults;
    rigs[0].device(&buffer, 0..PAGE, AccessMode::Write)?;
    let ended = rigs[0].statistics().collapsed / PAGE as u64;
    let alone = Rig::new(Profile::tiny(BLOCK as u64))?;
    let two = alone.unified(2 * BLOCK)?;
    alone.host(&two, 0..2 * BLOCK, AccessMode::Write)?;
    alone.advise(&two, Advice::SetReadMostly)?;
    alone.device(&two, 0..2 * BLOCK, AccessMode::Read)?;
    Ok(exact(22, DRIVER)
        .row("read-mostly, 3 readers: copies of the 2 MiB", 3.0, (copied / BLOCK as u64) as f64)
        .row("faults of further reads", 0.0, later as f64)
        // The host's copy goes too.
        .row("copies of a page that a write of one reader ends (k - 1, and the host's)", 3.0, ended as f64)
        .row("bytes that evicting a page moves which the host has", 0.0, alone.statistics().evicted as f64))
}
