//! Dry runs report exact figures for each layer.

use cumem::sim::Profile;
use cumem::{AllocError, Buffer, LayerExt, Location, MemoryResource, Stream, UnifiedBuffer, layout};
use cumem_adaptors::{AnyStack, Size, StackSpec};
use cumem_replay::Trace;
use cumem_whatif::{DryRun, Setting, WhatIfError, dry_run, replay};
use std::error::Error;
use std::mem;

const MIB: usize = 1 << 20;

fn setting(capacity: usize, stack: &str) -> Setting {
    Setting::new(Profile::tiny(capacity as u64), StackSpec::parse(stack).unwrap())
}

/// Allocates two blocks of 8 MiB, frees both, then allocates one of 12 MiB.
fn program(stack: &AnyStack) -> Result<(), AllocError> {
    let stack = stack.clone().into_device_accessible().expect("it is not `host`");
    let stream = Stream::new(stack.device())?;
    let buffer = |mib: usize| Buffer::<u8, _>::zeroed(mib * MIB, &stream, stack.clone());
    let two = (buffer(8)?, buffer(8)?);
    drop(two);
    buffer(12).map(drop)
}

fn run(setting: &Setting) -> DryRun {
    dry_run(setting, program).unwrap()
}

#[test]
fn a_program_that_fits_has_counts_of_each_layer() {
    let run = run(&setting(64 * MIB, "device | pool(initial=32MiB) | limit(50%) | statistics"));
    assert!(run.fits());
    assert_eq!((run.requests, run.out_of_memory_count, &run.error, &run.left_behind), (3, 0, &None, &None));
    assert_eq!((run.peak_requested, run.peak_reserved, run.peak_device), (16 << 20, 32 << 20, 32 << 20));
    let layers: Vec<_> =
        run.layers.iter().map(|l| (l.layer.as_str(), l.peak_bytes >> 20, l.total_blocks, l.limit)).collect();
    assert_eq!(
        layers,
        [("limit(50%)", 16, 3, Some(32 << 20)), ("pool(initial=32MiB)", 16, 3, None), ("device", 32, 1, None)]
    );
    assert!(run.virtual_ns > 0);
}

#[test]
fn a_run_that_does_not_fit_names_the_refused_allocation() {
    let run = run(&setting(14 * MIB, "device"));
    assert!(!run.fits());
    // The program returns the error of its second allocation.
    assert_eq!((run.requests, run.out_of_memory_count), (2, 1));
    assert_eq!((run.out_of_memory[0].request, run.out_of_memory[0].bytes), (2, 8 << 20));
    assert!(run.out_of_memory[0].error.ends_with("6 MiB of 14 MiB are free on the device"), "{run}");
    assert_eq!(run.error.as_ref(), Some(&run.out_of_memory[0].error));
    let text = run.to_string();
    assert_eq!(text.matches(&run.out_of_memory[0].error).count(), 1, "{text}");
    assert!(text.contains("the program ended with the error of allocation 2") && text.contains("fits: no\n"), "{text}");
    assert_eq!(run.layers[0].failures, 1);
    assert_eq!(run.left_behind, None);
}

#[test]
fn a_limit_of_a_setting_applies_to_memory_from_the_driver() {
    let roomy = setting(64 * MIB, "device | pool");
    assert!(run(&roomy.clone().limit(16 * MIB)).fits());
    let tight = run(&roomy.limit(Size::Percent(20)));
    assert_eq!(tight.limit, Some((64 << 20) * 20 / 100));
    assert_eq!(tight.out_of_memory_count, 1);
    let limit = tight.layers.iter().find(|layer| layer.limit.is_some()).unwrap();
    assert_eq!((limit.layer.as_str(), limit.limit), ("limit(20%)", tight.limit));
    assert!(limit.failures > 0 && limit.peak_bytes <= tight.limit.unwrap());
}

#[test]
fn unified_memory_fits_where_device_memory_does_not_and_pays() {
    let program = |stack: &AnyStack| -> Result<(), Box<dyn Error>> {
        let AnyStack::OverManaged(stack) = stack.clone() else { unreachable!("it stands on `managed`") };
        let stream = Stream::new(stack.device())?;
        let data = UnifiedBuffer::<u8>::zeroed(16 * MIB, &stream, stack)?;
        let _ = data.prefetch(Location::Host)?;
        Ok(())
    };
    let run = dry_run(&setting(8 * MIB, "managed"), program).unwrap();
    assert!(run.fits() && run.oversubscribed);
    assert!(run.to_string().contains("fits: yes, oversubscribed\n"), "{run}");
    assert_eq!((run.peak_requested, run.peak_device), (16 << 20, 8 << 20));
    // The pages that do not fit are evicted once. The prefetch to the host moves the rest.
    assert_eq!((run.migrated_to_host, run.evictions), (16 << 20, 4));
    assert!(run.faults > 0);
    let map = &run.residency;
    assert_eq!((map.rows.len(), map.left_out, map.rows[0].bytes), (1, 0, 16 << 20));
    assert!(map.on_device.iter().any(|bytes| *bytes > 0) && map.on_device.iter().all(|bytes| *bytes <= 8 << 20));
}

#[test]
fn managed_memory_larger_than_the_device_is_oversubscribed_also_without_a_use() {
    let allocate = |mib: usize| {
        move |stack: &AnyStack| {
            let stack = stack.clone().into_device_accessible().expect("it is not `host`");
            let stream = Stream::new(stack.device())?;
            let block = stack.allocate(&stream, layout::bytes(mib * MIB).expect("it is small"))?;
            // SAFETY: nothing uses the block.
            unsafe { stack.deallocate(&stream, block) }.expect("it is the stack's");
            Ok::<_, AllocError>(())
        }
    };
    for (stack, mib, oversubscribed) in
        [("managed", 16, true), ("managed | pool", 16, true), ("managed", 8, false), ("pinned", 16, false)]
    {
        let run = dry_run(&setting(8 * MIB, stack), allocate(mib)).unwrap();
        assert_eq!((run.fits(), run.oversubscribed), (true, oversubscribed), "{run}");
    }
}

#[test]
fn leaked_memory_is_reported() {
    let run = dry_run(&setting(64 * MIB, "device"), |stack| {
        let stack = stack.clone().into_device_accessible().expect("it is not `host`");
        let stream = Stream::new(stack.device())?;
        mem::forget(Buffer::<u8, _>::zeroed(4096, &stream, stack)?);
        Ok::<_, AllocError>(())
    });
    assert_eq!(run.unwrap().left_behind.as_deref(), Some("4096 bytes of device memory in 1 block, 1 stream"));
}

#[test]
fn an_impossible_setting_is_an_error() {
    let error = dry_run(&setting(3 * MIB, "device"), program).unwrap_err();
    assert!(matches!(&error, WhatIfError::Device(_)) && error.report().to_string().contains("capacity"), "{error}");
    let wsl = Setting::new(Profile::wsl(), StackSpec::parse("managed | prefetch").unwrap());
    let error = dry_run(&wsl, program).unwrap_err();
    assert!(matches!(error, WhatIfError::Stack(_)), "{error}");
}

const TRACE: &str = "\
Thread,Time,Action,Pointer,Size,Stream
1,00:00:00:000000,allocate,0x1000,4194304,0
1,00:00:00:000001,allocate,0x2000,4194304,0
1,00:00:00:000002,free,0x1000,4194304,0
1,00:00:00:000003,allocate,0x3000,8388608,0
1,00:00:00:000004,free,0x2000,4194304,0
1,00:00:00:000005,free,0x3000,8388608,0
";

#[test]
fn a_trace_is_replayed_and_its_lines_are_named() {
    let trace = Trace::parse(TRACE.as_bytes(), "small").unwrap();
    let fits = replay(&trace, &setting(16 * MIB, "device")).unwrap();
    assert_eq!((fits.fits(), fits.requests, fits.peak_requested), (true, 3, 12 << 20));
    let tight = replay(&trace, &setting(10 * MIB, "device")).unwrap();
    assert_eq!((tight.out_of_memory_count, tight.out_of_memory[0].line), (1, Some(5)));
    assert_eq!((tight.out_of_memory[0].request, tight.out_of_memory[0].bytes), (3, 8 << 20));
    assert_eq!(tight.error, None);
}

#[test]
fn touched_blocks_of_unified_memory_move() {
    let trace = Trace::parse(TRACE.as_bytes(), "small").unwrap();
    let setting = setting(8 * MIB, "managed");
    let untouched = replay(&trace, &setting).unwrap();
    assert_eq!((untouched.faults, untouched.evictions, untouched.peak_device), (0, 0, 0));
    let touched = replay(&trace, &setting.touched()).unwrap();
    // A live block of 4 MiB is on the device when 8 MiB are written last, so its pages are evicted.
    assert_eq!((touched.evictions, touched.migrated_to_host, touched.peak_device), (2, 4 << 20, 8 << 20));
    assert!(touched.faults > 0 && touched.virtual_ns > untouched.virtual_ns);
}

#[test]
fn a_timeline_covers_a_long_run_from_start_to_end() {
    let mut rows = String::from("Thread,Time,Action,Pointer,Size,Stream\n");
    for i in 0..3000 {
        rows += &format!("1,t,allocate,{:#x},1048576,0\n1,t,free,{:#x},1048576,0\n", i + 1, i + 1);
    }
    let trace = Trace::parse(rows.as_bytes(), "long").unwrap();
    let run = replay(&trace, &setting(8 * MIB, "managed").touched()).unwrap();
    let times = &run.residency.at_ns;
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!((64..=256).contains(&times.len()), "{} moments", times.len());
    assert!(times[0] < run.virtual_ns / 20, "the first moment is {} of {}", times[0], run.virtual_ns);
    assert!(widest < run.virtual_ns / 20, "nothing is known for {widest} of {} ns", run.virtual_ns);
    assert!((128..512).contains(&run.timeline.len()), "{} moments", run.timeline.len());
}

#[test]
fn the_same_setting_gives_the_same_answer() {
    let setting = setting(8 * MIB, "managed | pool").touched();
    let trace = Trace::parse(TRACE.as_bytes(), "small").unwrap();
    assert_eq!(replay(&trace, &setting).unwrap(), replay(&trace, &setting).unwrap());
}
