//! The enumeration of faults finds programs that handle a failing call wrongly, and names the call.

use cumem::error::CudaErrorCode;
use cumem::sim::faults::{FaultOutcome, FaultReport, enumerate};
use cumem::sim::{FaultCall, Profile};
use cumem::{AllocError, Buffer, CudaAsyncResource, CudaResource, Device, Event, MemoryResource, Stream, layout};
use cumem_adaptors::{PoolOptions, ResourceExt};
use std::cell::RefCell;
use std::error::Error;

type Run = Result<(), Box<dyn Error>>;

fn report(program: impl Fn(&Device) -> Run) -> FaultReport {
    enumerate(&Profile::default(), program)
}

fn only_wrong(report: &FaultReport) -> String {
    let wrong = report.wrong();
    assert_eq!(wrong.len(), 1, "{report}");
    wrong[0].clone()
}

#[test]
fn each_call_fails_once_with_each_of_its_codes() {
    let report = report(|device| {
        let stream = Stream::new(device)?;
        Buffer::from_slice(&[1_u8; 64], &stream, CudaResource::new(device).pool(PoolOptions::default())?)?.to_vec()?;
        Ok(())
    });
    report.assert();
    let calls = |call| report.calls().iter().find(|(found, _)| *found == call).map_or(0, |(_, n)| *n);
    assert_eq!((calls(FaultCall::AllocateDevice), calls(FaultCall::Copy), calls(FaultCall::Free)), (1, 2, 1));
    let of = |call| Vec::from_iter(report.runs().iter().filter(|(fault, _)| fault.call == call));
    let [(_, first), (_, second)] = of(FaultCall::AllocateDevice)[..] else { panic!("{report}") };
    // If the driver is out of memory, the pool asks for a smaller chunk. It returns every other error to the caller.
    assert_eq!(*first, FaultOutcome::Succeeded);
    assert!(matches!(second, FaultOutcome::Failed(why) if why.contains("CUDA_ERROR_UNKNOWN")), "{second:?}");
    assert!(of(FaultCall::Copy).iter().all(|(_, outcome)| matches!(outcome, FaultOutcome::Failed(_))), "{report}");
    assert!(matches!(of(FaultCall::Free)[0].1, FaultOutcome::Kept(_)), "{report}");
}

#[test]
fn staging_memory_of_large_copies_is_not_reported_as_a_leak() {
    let report = report(|device| {
        let stream = Stream::new(device)?;
        drop(Buffer::from_slice(&vec![1_u8; 8 << 20], &stream, CudaResource::new(device))?);
        Ok(())
    });
    report.assert();
    assert!(report.calls().iter().any(|(call, _)| *call == FaultCall::AllocatePinned), "{report}");
}

#[test]
fn a_leak_report_names_the_failed_driver_call() {
    // Events that outlive the run, and not the test.
    let kept = RefCell::new(Vec::new());
    let report = report(|device| {
        let event = Event::new(device)?;
        let stream = Stream::new(device)?;
        if let Err(error) = event.record(&stream) {
            kept.borrow_mut().push(event);
            return Err(error.into());
        }
        Ok(())
    });
    assert_eq!(only_wrong(&report), "RecordEvent call 1, answering CUDA_ERROR_UNKNOWN (999): it left 1 event");
}

#[test]
fn a_free_that_fails_must_be_reported() {
    let report = report(|device| {
        let (stream, resource) = (Stream::new(device)?, CudaResource::new(device));
        let block = resource.allocate(&stream, layout::bytes(4096)?)?;
        // SAFETY: no work uses the block.
        let _ = unsafe { resource.deallocate(&stream, block) };
        Ok(())
    });
    let wrong = only_wrong(&report);
    assert!(
        wrong.starts_with("Free call 1")
            && wrong.ends_with("4096 bytes of device memory in 1 block, and nothing said so"),
        "{wrong}"
    );
}

/// A drop error of another device is recorded during the run.
#[test]
fn a_message_about_another_device_does_not_count() {
    let report = report(|device| {
        let (stream, resource) = (Stream::new(device)?, CudaResource::new(device));
        let block = resource.allocate(&stream, layout::bytes(4096)?)?;
        // SAFETY: no work uses the block.
        let _ = unsafe { resource.deallocate(&stream, block) };
        let other = Device::simulated(Profile::default())?;
        let buffer = Buffer::from_slice(&[1_u8], &Stream::new(&other)?, CudaResource::new(&other))?;
        other.simulator().ok_or("no simulator")?.fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
        drop(buffer);
        Ok(())
    });
    assert!(only_wrong(&report).ends_with("and nothing said so"), "{report}");
}

/// If a destruction fails, the drop records an error on the thread where it runs, so the report accepts what is left.
#[test]
fn streams_events_and_pools_that_cannot_be_destroyed_are_reported() {
    let report = report(|device| {
        let device = device.clone();
        let on_another_thread = std::thread::spawn(move || -> Result<(), AllocError> {
            let stream = Stream::new(&device)?;
            Event::new(&device)?.record(&stream)?;
            let pool = CudaAsyncResource::new(&device)?;
            Buffer::<u8, _>::zeroed(4096, &stream, pool).map(drop)
        });
        Ok(on_another_thread.join().map_err(|_| "it panicked")??)
    });
    report.assert();
    let destroyed = report.runs().iter().filter(|(fault, _)| fault.call == FaultCall::Destroy);
    let kept: Vec<_> = destroyed.map(|(_, outcome)| outcome.clone()).collect();
    assert_eq!(kept, ["1 event", "1 pool", "1 stream"].map(|left| FaultOutcome::Kept(left.into())));
}

#[test]
fn a_failed_assertion_of_the_program_is_reported() {
    let report = report(|device| {
        let mut counted = 0;
        let stream = Stream::new(device)?;
        counted += 1;
        let result = Buffer::<u8, _>::zeroed(64, &stream, CudaResource::new(device)).map(drop);
        counted -=
            i32::from(!matches!(&result, Err(AllocError::Device(e)) if e.code() == Some(CudaErrorCode::UNKNOWN)));
        assert_eq!(counted, 0, "a counter moved");
        Ok(result?)
    });
    let wrong = report.wrong();
    assert_eq!(wrong.len(), 2, "{report}");
    assert!(wrong[0].starts_with("AllocateDevice call 1") && wrong[0].contains("a counter moved"), "{report}");
    assert!(wrong[1].starts_with("Fill call 1"), "{report}");
}

#[test]
fn a_program_that_fails_by_itself_is_not_enumerated() {
    let report = report(|_| Err("it is Sunday".into()));
    assert_eq!(only_wrong(&report), "with no call failing: it is Sunday");
    assert!(report.runs().is_empty());
}

#[test]
fn a_nondeterministic_program_is_reported() {
    let mut runs = 0;
    let report = enumerate(&Profile::default(), |device| {
        runs += 1;
        if runs == 1 {
            device.memory_info()?;
        }
        Ok::<_, cumem::DeviceError>(())
    });
    assert!(only_wrong(&report).contains("its calls differ from run to run"), "{report}");
}

#[test]
#[should_panic(expected = "CreateStream call 1, answering CUDA_ERROR_UNKNOWN (999): it panicked")]
fn asserting_a_wrong_report_panics_with_all_that_is_wrong() {
    enumerate(&Profile::default(), |device| {
        let _ = Stream::new(device).unwrap();
        Ok::<_, cumem::DeviceError>(())
    })
    .assert();
}
