//! Each cause of an error is displayed once, however deep the chain is: as `{:#}` of anyhow, eyre and this project's
//! reports print it.

use crate::common::{free, simulated};
use cumem::error::{CudaErrorCode, DeallocReason, ErrorReport, InvalidLayout, TrimError, Usage};
use cumem::resources::AliasError;
use cumem::sim::FaultCall;
use cumem::unified::{PlanError, PrefetchPlan};
use cumem::{
    AllocError, CudaResource, Device, DeviceError, DriverError, Location, ManagedResource, MemoryResource, Stream,
    UnifiedBuffer, layout,
};
use cumem_adaptors::{PoolError, PoolOptions, PressureError, ResourceExt, Size, StackSpec};
use cumem_replay::{ReplayError, Trace, TraceError};
use cumem_whatif::WhatIfError;
use std::error::Error;
use std::io;

/// Asserts that no error of the chain displays a cause that follows it.
fn each_cause_once(error: &(dyn Error + 'static)) {
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    for (i, text) in chain.iter().enumerate() {
        for cause in &chain[i + 1..] {
            assert!(!text.contains(cause.as_str()), "`{text}` contains its cause `{cause}`");
        }
        assert!(!text.is_empty(), "{chain:?}");
    }
    let report = ErrorReport::of(error).to_string();
    let last = chain.last().expect("the error itself");
    assert_eq!(report.matches(last.as_str()).count(), 1, "{report}");
}

fn driver_errors(device: &Device) -> Vec<DriverError> {
    let device = device.id();
    vec![
        DriverError::Call { call: "cuMemAlloc", device, code: CudaErrorCode::OUT_OF_MEMORY },
        DriverError::Compile { device, code: CudaErrorCode::INVALID_VALUE, log: "a line".into() },
        DriverError::MissingSymbol { symbol: "cuMemMap", driver_version: "10.0".into() },
        DriverError::NoDriver { reason: "none is installed".into(), code: None },
        DriverError::NoSuchDevice { ordinal: 7, count: 1 },
        DriverError::NotSupported { what: "pools", device },
        DriverError::InvalidAnswer { call: "cuMemGetInfo", device, answer: "2 free bytes of 1".into() },
        DriverError::Forked { device },
        DriverError::Simulation { device, message: "out of bounds".into() },
    ]
}

fn device_errors(device: &Device) -> Vec<DeviceError> {
    let id = device.id();
    let mut errors: Vec<DeviceError> = driver_errors(device).into_iter().map(DeviceError::from).collect();
    errors.extend([
        DeviceError::WrongDevice { what: "the stream", found: id, expected: id },
        DeviceError::WrongThread { device: id },
        DeviceError::HostAccess { device: id, guards: 1 },
        DeviceError::WrongLength { expected: 1, found: 2 },
        DeviceError::OutOfRange { start: 0, end: 2, size: 1 },
        DeviceError::OtherBlock { expected: 1, found: 2 },
    ]);
    errors
}

fn alloc_errors(device: &Device) -> Vec<AllocError> {
    let id = device.id();
    let leaf = AllocError::OutOfMemory { layer: "device", requested: 1, free: 0, total: 1, device: id };
    let exhausted = |requested, upstream| AllocError::Exhausted {
        layer: "pool",
        requested,
        held: Box::<Usage>::default(),
        upstream,
    };
    let mut errors = vec![
        leaf.clone(),
        exhausted(2, None),
        exhausted(2, Some(Box::new(leaf.clone()))),
        exhausted(3, Some(Box::new(exhausted(2, Some(Box::new(leaf)))))),
        AllocError::LimitExceeded { layer: "limit".into(), requested: 1, allocated: 1, limit: 1 },
        AllocError::InvalidLayout(InvalidLayout { size: usize::MAX, alignment: 256 }),
        AllocError::UnsupportedAlignment { layer: "device", alignment: 4096, maximum: 256 },
    ];
    for source in device_errors(device) {
        errors.push(AllocError::PrefetchFailed { requested: 1, source: source.clone() });
        errors.push(exhausted(2, Some(Box::new(AllocError::PrefetchFailed { requested: 1, source: source.clone() }))));
        errors.push(source.into());
    }
    errors
}

#[test]
fn every_error_type_displays_each_cause_once() {
    let device = simulated();
    driver_errors(&device).iter().for_each(|error| each_cause_once(error));
    for source in device_errors(&device) {
        each_cause_once(&source);
        each_cause_once(&DeallocReason::from(source.clone()));
        each_cause_once(&TrimError::new(1, source.clone()));
        each_cause_once(&PlanError::Entry { entry: 1, source: source.clone() });
        each_cause_once(&PlanError::Stopped { ranges: Vec::new(), enqueued: 0, source: source.clone() });
        each_cause_once(&PoolError::Device(source.clone()));
        each_cause_once(&PressureError::Driver(source.clone()));
        each_cause_once(&WhatIfError::Device(source.clone()));
        each_cause_once(&ReplayError::Device(source));
    }
    for source in alloc_errors(&device) {
        each_cause_once(&source);
        each_cause_once(&PoolError::Initial(source.clone()));
        each_cause_once(&ReplayError::Allocate { trace: "a.csv".into(), line: 1, size: 1, source });
    }
    driver_errors(&device).into_iter().for_each(|source| each_cause_once(&AliasError::Driver(source)));
    let io = || io::Error::from(io::ErrorKind::NotFound);
    each_cause_once(&TraceError::Open { name: "a.csv".into(), source: io() });
    each_cause_once(&TraceError::Read { name: "a.csv".into(), line: 1, source: io::Error::other(io()) });
    each_cause_once(&Trace::parse(&b"nonsense"[..], "a.csv").unwrap_err());
    each_cause_once(&"nonsense".parse::<Size>().unwrap_err());
    each_cause_once(&StackSpec::parse("device | pool(").unwrap_err());
}

/// The errors as a program gets them, with a driver call that fails.
#[test]
fn errors_of_failed_calls_display_each_cause_once() {
    let fails = |call, code| {
        let device = simulated();
        let stream = Stream::new(&device).unwrap();
        (1..=8).for_each(|n| device.simulator().unwrap().fail_nth(call, n, code));
        (device, stream)
    };
    let bytes = layout::bytes(1 << 20).unwrap();

    let (device, stream) = fails(FaultCall::PrefetchAsync, CudaErrorCode::UNKNOWN);
    let stack = ManagedResource::new(&device).unwrap().pool(PoolOptions::new()).unwrap().prefetch(device.id()).unwrap();
    each_cause_once(&stack.allocate(&stream, bytes).unwrap_err());

    let (device, stream) = fails(FaultCall::PrefetchAsync, CudaErrorCode::UNKNOWN);
    let buffer = UnifiedBuffer::<u8, _>::zeroed(4096, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    let mut plan = PrefetchPlan::new(&stream);
    plan.add_buffer(&buffer, 0..4096, Location::Host).unwrap();
    each_cause_once(&plan.execute().unwrap_err());

    for code in [CudaErrorCode::OUT_OF_MEMORY, CudaErrorCode::UNKNOWN] {
        let (device, stream) = fails(FaultCall::AllocateDevice, code);
        let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(2 << 20).step(2 << 20)).unwrap();
        each_cause_once(&pool.allocate(&stream, bytes).unwrap_err());
        let (device, _stream) = fails(FaultCall::AllocateDevice, code);
        each_cause_once(&CudaResource::new(&device).pool(PoolOptions::new().initial(2 << 20)).unwrap_err());
        let (device, _stream) = fails(FaultCall::AllocateDevice, code);
        each_cause_once(&StackSpec::parse("device | pool(initial=2MiB)").unwrap().build(&device).unwrap_err());
    }

    let (device, stream) = fails(FaultCall::Free, CudaErrorCode::UNKNOWN);
    let leaf = CudaResource::new(&device);
    let block = leaf.allocate(&stream, bytes).unwrap();
    let error = free(&leaf, &stream, block).unwrap_err();
    each_cause_once(&error);
    device.simulator().unwrap().clear_faults();
    free(&leaf, &stream, error.block).unwrap();
}
