//! Every option and argument at its extremes: it saturates, or is refused with a typed error. Nothing overflows and
//! nothing runs without an end.

use crate::common::{free, simulated};
use cumem::kernel::HostKernel;
use cumem::resources::{CudaAsyncOptions, PoolSource};
use cumem::sim::Profile;
use cumem::unified::accounting::Ledger;
use cumem::unified::{AutoPrefetchOptions, HintOutcome, PrefetchPlan};
use cumem::{
    Buffer, CudaAsyncResource, CudaResource, CudaVirtualResource, Device, LayerExt, ManagedResource, MemoryResource,
    PinnedResource, Stream, UnifiedBuffer, layout,
};
use cumem_adaptors::{
    LimiterState, PoolOptions, PressureOptions, ResourceExt, Size, StackSpec, fit_batch, with_oom_recovery,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs each case and lists those that panic. Fails if one does not end.
fn each(cases: Vec<(String, Box<dyn FnOnce() + Send>)>) {
    let mut wrong = Vec::new();
    for (name, case) in cases {
        let (send, ended) = mpsc::channel();
        thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(case));
            // The receiver is gone if the case took too long.
            let _ = send.send(result.is_ok());
        });
        match ended.recv_timeout(Duration::from_secs(60)) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{name}: panicked")),
            Err(_) => wrong.push(format!("{name}: does not end")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn sizes() -> Vec<Size> {
    let bytes = [0, 1, 255, 256, isize::MAX as usize, usize::MAX - 1, usize::MAX].map(Size::Bytes);
    let shares = [0, 1, 100, 101, 180, 255].into_iter();
    let shares = shares.flat_map(|percent| [Size::Percent(percent), Size::PercentOfFree(percent)]);
    bytes.into_iter().chain(shares).collect()
}

/// Allocates and frees a few blocks, whether or not the stack has room for them.
fn use_stack(stack: &impl MemoryResource) {
    let streams = [(); 2].map(|()| Stream::new(stack.device()).unwrap());
    for stream in &streams {
        let sizes = [0, 1, 4096, 3 << 20];
        let live: Vec<_> =
            sizes.into_iter().filter_map(|n| stack.allocate(stream, layout::bytes(n).unwrap()).ok()).collect();
        live.into_iter().for_each(|block| free(stack, stream, block).unwrap());
    }
    for keep in [usize::MAX, 1, 0] {
        stack.trim_stack(keep).unwrap();
    }
    // The description of a stack can be read again.
    let text = stack.to_text();
    assert!(StackSpec::parse(&text).is_ok(), "`{text}` cannot be read");
}

trait Text {
    fn to_text(&self) -> String;
}

impl<R: MemoryResource> Text for R {
    fn to_text(&self) -> String {
        let mut layers: Vec<String> = self.layers_beneath().map(|l| cumem::layer::Described(l).to_string()).collect();
        layers.reverse();
        layers.push(cumem::layer::Described(self).to_string());
        layers.join(" | ")
    }
}

type Leaf = fn(&Device, PoolOptions);
type Set<O> = fn(O, Size) -> O;

#[test]
fn options_of_a_pool() {
    let leaves: [(&str, Leaf); 4] = [
        ("device", |device, options| _ = CudaResource::new(device).pool(options).map(|pool| use_stack(&pool))),
        ("virtual", |device, options| {
            _ = CudaVirtualResource::new(device).unwrap().pool(options).map(|pool| use_stack(&pool));
        }),
        ("managed", |device, options| {
            _ = ManagedResource::new(device).unwrap().pool(options).map(|pool| use_stack(&pool));
        }),
        ("pinned", |device, options| _ = PinnedResource::new(device).pool(options).map(|pool| use_stack(&pool))),
    ];
    let options: [(&str, Set<PoolOptions>); 6] = [
        ("initial", |options, size| options.initial(size)),
        ("maximum", |options, size| options.maximum(size)),
        ("step", |options, size| options.step(size)),
        ("release_threshold", |options, size| options.release_threshold(size)),
        ("slack", |options, size| options.slack(size)),
        ("up_to", |options, size| options.up_to(size)),
    ];
    let mut cases: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    for (leaf, run) in leaves {
        for (option, set) in options {
            for size in sizes() {
                let case = move || run(&small(), set(PoolOptions::new(), size));
                cases.push((format!("{leaf} | pool({option}={size:?})"), Box::new(case)));
            }
        }
        for divisions in [0, 1, 2, 3, 1 << 20, 1 << 31, u32::MAX] {
            let case = move || run(&small(), PoolOptions::new().divisions(divisions));
            cases.push((format!("{leaf} | pool(divisions={divisions})"), Box::new(case)));
        }
    }
    each(cases);
}

fn small() -> Device {
    Device::simulated(Profile::tiny(64 << 20)).unwrap()
}

#[test]
fn options_of_the_other_layers() {
    let mut cases: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    let options: [(&str, Set<PressureOptions>); 3] = [
        ("trim", |options, size| options.trim_at(size)),
        ("refuse", |options, size| options.refuse_at(size)),
        ("slack", |options, size| options.slack(size)),
    ];
    for size in sizes() {
        let case = move || use_stack(&CudaResource::new(&small()).limit(size));
        cases.push((format!("limit({size:?})"), Box::new(case)));
        for (option, set) in options {
            let case = move || {
                let pressure = CudaResource::new(&small()).pressure(set(PressureOptions::default(), size));
                _ = pressure.map(|stack| use_stack(&stack));
            };
            cases.push((format!("pressure({option}={size:?})"), Box::new(case)));
        }
    }
    for n in [0, 1, usize::MAX] {
        let pressure = move || {
            let options = PressureOptions::default().ask_after(n);
            _ = CudaResource::new(&small()).pressure(options).map(|stack| use_stack(&stack));
        };
        cases.push((format!("pressure(ask={n})"), Box::new(pressure)));
        let threshold = move || {
            let options = CudaAsyncOptions::new(PoolSource::Own).release_threshold(n as u64);
            use_stack(&CudaAsyncResource::with_options(&small(), options).unwrap());
        };
        cases.push((format!("release_threshold({n})"), Box::new(threshold)));
        let auto = move || {
            let options = AutoPrefetchOptions::default().budget(n).uses_ahead(n);
            let device = small();
            let stream = Stream::new(&device).unwrap();
            let memory = ManagedResource::new(&device).unwrap();
            let mut buffer = UnifiedBuffer::<u8, _>::zeroed(8 << 20, &stream, memory).unwrap();
            let _ = buffer.auto_prefetch(options).unwrap();
            for i in 0..16 {
                drop(buffer.device_use((i % 8) << 20..(i % 8 + 1) << 20).unwrap());
            }
        };
        cases.push((format!("auto_prefetch({n})"), Box::new(auto)));
        let plan = move || {
            let device = small();
            let stream = Stream::new(&device).unwrap();
            let memory = ManagedResource::new(&device).unwrap();
            let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, memory).unwrap();
            let mut plan = PrefetchPlan::new(&stream).budget(n);
            plan.add_buffer(&buffer, 0..1 << 20, device.id()).unwrap();
            assert_eq!(plan.execute().unwrap().outcomes == [HintOutcome::Applied], n == usize::MAX);
        };
        cases.push((format!("budget({n})"), Box::new(plan)));
        let recovery = move || {
            let recovered = with_oom_recovery(n, 1, |items| if items > 3 { Err(too_much()) } else { Ok(items) });
            assert!(recovered.is_ok() || n == 0);
        };
        cases.push((format!("with_oom_recovery({n})"), Box::new(recovery)));
        for [per_item, fixed, most] in [[n, 0, 10], [1, n, 10], [1, 0, n], [n, n, n]] {
            let fit = move || {
                let device = small();
                for stack in ["device", "device | pool", "pinned | pool", "device | limit(1MiB)"] {
                    let stack = StackSpec::parse(stack).unwrap().build(&device).unwrap();
                    let fit = fit_batch(&stack, per_item, fixed, most).unwrap();
                    assert!(fit.items <= most);
                }
            };
            cases.push((format!("fit_batch({per_item}, {fixed}, {most})"), Box::new(fit)));
        }
    }
    each(cases);
}

fn too_much() -> cumem::AllocError {
    cumem::AllocError::LimitExceeded { layer: "limit".into(), requested: 1, allocated: 0, limit: 0 }
}

#[test]
fn a_share_of_more_than_all_is_all() {
    let device = small();
    let all = device.attributes().total_memory;
    let stack = CudaResource::new(&device).limit(Size::Percent(180));
    assert_eq!(stack.find::<LimiterState>().unwrap().bytes(), all);
    assert!(stack.to_string().starts_with("limit(100%) over device"), "{stack}");
}

#[test]
fn arguments_of_kernels_and_of_accounting() {
    let mut cases: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    for n in [0, 1, usize::MAX] {
        let kernel = move || {
            let device = small();
            let stream = Stream::new(&device).unwrap();
            let memory = Buffer::<u8, _>::zeroed(4096, &stream, ManagedResource::new(&device).unwrap()).unwrap();
            let kernel = HostKernel::new("few", |_| ()).in_flight(n).operations(n as u64);
            // SAFETY: the buffer lives until the device has been waited for.
            let launched = unsafe { stream.launch_host(kernel.reads(memory.device_address(), 4096)) };
            assert_eq!(launched.is_ok(), n > 0, "a kernel without threads is refused");
            // SAFETY: the simulator refuses ranges that are not allocated.
            _ = unsafe { stream.launch_host(HostKernel::new("far", |_| ()).writes(u64::MAX, n)) };
            _ = device.synchronize();
        };
        cases.push((format!("kernel({n})"), Box::new(kernel)));
        let ledger = move || {
            let device = small();
            let ledger = Ledger::new(&device);
            ledger.write_down(n);
            let tags = [(0, n), (u64::MAX, n), (u64::MAX / 2, n)].map(|(addr, bytes)| ledger.tag(addr, bytes, "tag"));
            let stream = Stream::new(&device).unwrap();
            let memory = ManagedResource::new(&device).unwrap();
            let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, memory).unwrap();
            drop(buffer.device_use(0..1 << 20).unwrap());
            assert!(buffer.prefetch(device.id()).unwrap().is_applied());
            drop((tags, ledger.pattern(), ledger.report()));
        };
        cases.push((format!("ledger({n})"), Box::new(ledger)));
    }
    for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let pass = move || {
            let device = small();
            let stream = Stream::new(&device).unwrap();
            let simulator = device.simulator().unwrap();
            simulator.pass_time(time);
            let memory = Buffer::<u8, _>::zeroed(4096, &stream, CudaResource::new(&device)).unwrap();
            simulator.pass_time(time);
            assert_eq!(memory.to_vec().unwrap(), [0; 4096]);
        };
        cases.push((format!("pass_time({time:?})"), Box::new(pass)));
    }
    each(cases);
}

#[test]
fn lengths_of_a_buffer() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    for n in [usize::MAX, usize::MAX / 2, isize::MAX as usize] {
        assert!(Buffer::<u64, _>::zeroed(n, &stream, CudaResource::new(&device)).is_err());
        let mut buffer = Buffer::from_slice(&[1_u64, 2], &stream, CudaResource::new(&device)).unwrap();
        assert!(buffer.resize(n).is_err() && buffer.reserve(n).is_err());
        assert!(
            buffer.device_use(0..n).is_err() && buffer.device_use(n..0).is_err() && buffer.device_use(n..n).is_err()
        );
        assert_eq!(buffer.to_vec().unwrap(), [1, 2]);
    }
}
