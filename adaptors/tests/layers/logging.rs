//! The rows of a log, its files, and sinks that fail.

use crate::common::{free, sim};
use cumem::error::take_drop_errors;
use cumem::sim::{Profile, faults};
use cumem::{
    AllocError, AnyResource, Buffer, CudaResource, DeallocError, HostResource, LayerExt, MemoryResource, Stream, kind,
    layout,
};
use cumem_adaptors::{LogError, LogOptions, LoggingState, PoolOptions, ResourceExt, SpecError, StackSpec};
use cumem_conformance::FailNth;
use cumem_test_support::own_process;
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::{env, fs, process, thread};

/// A sink whose text can be read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// Returns the rows without thread and time, for example `allocate,0x100,4096,0x2`.
    fn calls(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Thread,Time,Action,Pointer,Size,Stream"));
        lines.map(|line| line.splitn(3, ',').last().unwrap().to_owned()).collect()
    }
}

/// A path that no other test has, without a file.
fn temporary(name: &str) -> PathBuf {
    let path = env::temp_dir().join(format!("cumem-{}-{name}.csv", process::id()));
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn each_call_is_a_row() {
    let (device, stream) = sim();
    let sink = Shared::default();
    let upstream = FailNth::new(CudaResource::new(&device));
    let faults = upstream.faults();
    let stack = upstream.logging(LogOptions::sink(sink.clone())).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    faults.fail_allocation(1);
    stack.allocate(&stream, layout::bytes(24).unwrap()).unwrap_err();
    let empty = stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    let (addr, on) = (block.addr(), format!("{:#x}", stream.as_raw()));
    faults.fail_deallocation(1);
    let DeallocError { block, .. } = free(&stack, &stream, block).unwrap_err();
    free(&stack, &Stream::legacy_default(&device), block).unwrap();
    free(&stack, &stream, empty).unwrap();
    assert_eq!(sink.0.lock().unwrap().len(), 0, "rows wait until there are many");
    stack.state().flush().unwrap();
    let expected = [
        format!("allocate,{addr:#x},1000,{on}"),
        format!("allocate failure,(nil),24,{on}"),
        format!("allocate,(nil),0,{on}"),
        format!("free,{addr:#x},1000,{on}"),
        format!("allocate,{addr:#x},1000,{on}"),
        format!("free,{addr:#x},1000,0x1"),
        format!("free,(nil),0,{on}"),
    ];
    assert_eq!(sink.calls(), expected);
    assert_eq!((stack.state().written_rows(), stack.state().lost_rows()), (7, 0));
    assert_eq!(stack.to_string(), format!("log over {} over device on {}", "fail_nth", device.id()));
}

#[test]
fn a_row_is_written_at_once_by_choice_and_by_the_drop() {
    let (device, stream) = sim();
    for at_once in [false, true] {
        let sink = Shared::default();
        let options = LogOptions::sink(sink.clone());
        let options = if at_once { options.flush_each_row() } else { options };
        let stack = CudaResource::new(&device).logging(options).unwrap();
        let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
        assert_eq!(sink.0.lock().unwrap().is_empty(), !at_once);
        free(&stack, &stream, block).unwrap();
        drop(stack);
        assert_eq!(sink.calls().len(), 2);
    }
}

/// Threads free blocks of each other, and the upstream gives the same addresses again. In the log each address is
/// allocated and freed in turn.
#[test]
fn the_rows_of_many_threads_have_the_order_of_the_calls() {
    const PAIRS: usize = 3000;
    let device = sim().0;
    let sink = Shared::default();
    let pool = HostResource::new(&device).pool(PoolOptions::new()).unwrap();
    let stack = pool.logging(LogOptions::sink(sink.clone())).unwrap();
    let passed = Mutex::new(Vec::new());
    let stream = Stream::new(&device).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for step in 0..PAIRS {
                    let block = stack.allocate(&stream, layout::bytes(256 * (1 + step % 3)).unwrap()).unwrap();
                    let other = {
                        let mut passed = passed.lock().unwrap();
                        passed.push(block);
                        let first = passed.len() > 4;
                        first.then(|| passed.swap_remove(0))
                    };
                    other.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
                }
            });
        }
    });
    assert!(stack.state().written_rows() > 0, "a thread had so many rows that it wrote them");
    passed.into_inner().unwrap().into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
    stack.state().flush().unwrap();
    let mut live = HashMap::<String, bool>::new();
    let calls = sink.calls();
    assert_eq!(calls.len(), 2 * 4 * PAIRS);
    for call in calls {
        let [action, pointer, ..] = call.split(',').collect::<Vec<_>>()[..] else { panic!("{call}") };
        let is_live = live.entry(pointer.to_owned()).or_default();
        assert_eq!(*is_live, action == "free", "{call}");
        *is_live = !*is_live;
    }
    assert!(live.len() < 1000, "addresses were given again");
    assert!(live.values().all(|live| !live));
}

#[test]
fn a_file_is_the_log_of_one_adaptor_and_is_truncated() {
    let (device, stream) = sim();
    let path = temporary("one");
    fs::write(&path, "text that was there before, and that is longer than the log".repeat(100)).unwrap();
    let first = CudaResource::new(&device).logging(path.as_path()).unwrap();
    let block = first.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    free(&first, &stream, block).unwrap();
    first.state().flush().unwrap();
    let again = CudaResource::new(&device).logging(env::temp_dir().join(".").join(path.file_name().unwrap()));
    assert!(matches!(again, Err(LogError::InUse { .. })), "{again:?}");
    assert_eq!(first.to_string(), format!("log({}) over device on {}", path.display(), device.id()));
    drop(first);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    drop(CudaResource::new(&device).logging(path.as_path()).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "Thread,Time,Action,Pointer,Size,Stream\n");
    fs::remove_file(path).unwrap();
    for wrong in ["", "/", "/no/such/folder/log.csv", "a\0b"] {
        let error = CudaResource::new(&device).logging(wrong).unwrap_err();
        assert!(matches!(error, LogError::Open { .. }) && error.source().is_some(), "{error}");
    }
}

#[test]
fn a_sink_that_fails_or_panics_loses_rows_and_no_block() {
    struct Fails(bool);
    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            assert!(!self.0, "no more paper");
            Err(io::Error::new(io::ErrorKind::StorageFull, "full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (panics, text) in [(false, "full"), (true, "the sink panicked: no more paper")] {
        let (device, stream) = sim();
        let options = LogOptions::sink(Fails(panics)).flush_each_row();
        let stack = CudaResource::new(&device).logging(options).unwrap();
        let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
        free(&stack, &stream, block).unwrap();
        assert_eq!(stack.state().flush().unwrap_err().to_string(), text);
        assert_eq!((stack.state().written_rows(), stack.state().lost_rows()), (0, 2));
        assert!(device.simulator().unwrap().live_allocations().no_memory());
    }
}

#[test]
fn a_log_from_text_has_its_file_or_the_environments() {
    let (device, stream) = sim();
    let path = temporary("spec");
    let build = |text: String| StackSpec::parse(&text).unwrap().build(&device);
    let stack = build(format!("device | pool | log({}, flush) | limit(1GiB)", path.display())).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    assert_eq!(stack.find::<LoggingState>().unwrap().path(), Some(path.as_path()));
    let shown = format!("limit(1GiB) over log({}, flush) over pool over device on {}", path.display(), device.id());
    assert_eq!(stack.to_string(), shown);
    free(&stack, &stream, block).unwrap();
    let error: SpecError = build(format!("device | log({})", path.display())).unwrap_err();
    assert!(error.report().to_string().contains("is already the log of another adaptor"), "{error}");
    fs::remove_file(path).unwrap();
}

#[test]
fn no_row_is_lost_when_a_driver_call_fails() {
    let report = faults::enumerate(&Profile::default(), |device| {
        let sink = Shared::default();
        let options = LogOptions::sink(sink.clone());
        let stack = CudaResource::new(device).logging(options).unwrap();
        let result: Result<(), AllocError> = (|| {
            let stream = Stream::new(device)?;
            drop(Buffer::<u8, _>::zeroed(1000, &stream, &stack)?);
            Ok(())
        })();
        stack.state().flush().unwrap();
        let calls = sink.calls();
        let count = |action: &str| calls.iter().filter(|call| call.starts_with(action)).count();
        let live = count("allocate,") - count("free,");
        let held = device.simulator().unwrap().live_blocks().len();
        assert_eq!(live, held, "{calls:?}");
        result
    });
    report.assert();
}

// These tests read the recorded errors of drops and the environment, or end the process.
own_process!(a_drop_records_lost_rows);
mod environment {
    use super::*;
    own_process!(with &[("RMM_LOG_FILE", "".into())]; an_empty_variable_names_no_file);
    fn an_empty_variable_names_no_file() {
        let leaf = CudaResource::new(&sim().0);
        assert!(matches!(leaf.logging(LogOptions::env()), Err(LogError::NoFile)));
        let error = StackSpec::parse("device | log").unwrap().build(&sim().0).unwrap_err();
        assert!(error.report().to_string().contains("RMM_LOG_FILE is not set"), "{error}");
    }
}

fn a_drop_records_lost_rows() {
    let (device, stream) = sim();
    let room: &'static mut [u8] = &mut [];
    let stack = CudaResource::new(&device).logging(LogOptions::sink(room)).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
    drop(stack);
    let text = "a log could not be released: 2 rows could not be written: failed to write whole buffer";
    assert_eq!(take_drop_errors(), [text]);
}

/// The resource is never dropped. The rows are written when the process ends.
#[test]
fn a_log_in_a_static_is_complete_at_the_end_of_the_process() {
    static STACK: Mutex<Option<AnyResource<kind::Device>>> = Mutex::new(None);
    const CHILD: &str = "CUMEM_TEST_LOG_AT_EXIT";
    if env::var_os(CHILD).is_some() {
        let (device, stream) = sim();
        let stack = AnyResource::new(CudaResource::new(&device).logging(LogOptions::env()).unwrap());
        let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
        free(&stack, &stream, block).unwrap();
        *STACK.lock().unwrap() = Some(stack);
        return;
    }
    let path = temporary("exit");
    let name = thread::current().name().unwrap().to_owned();
    let child = process::Command::new(env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("RMM_LOG_FILE", &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    fs::remove_file(path).unwrap();
}
