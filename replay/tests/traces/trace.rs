//! Traces that can be read, and traces that are refused.

use cumem_replay::{Malformed, Trace, TraceError};
use cumem_test_support::Folder;

const HEADER: &str = "Thread,Time,Action,Pointer,Size,Stream\n";

fn parse(rows: &str) -> Result<Trace, TraceError> {
    Trace::parse(format!("{HEADER}{rows}").as_bytes(), "log.csv")
}

/// Returns the line and the problem of a malformed trace.
fn malformed(rows: &str) -> (u64, Malformed) {
    match parse(rows).expect_err(rows) {
        TraceError::Malformed { name, line, problem } => {
            assert_eq!(name, "log.csv");
            (line, problem)
        }
        other => panic!("{other}"),
    }
}

const RESNET: &[u8] = include_bytes!("../../../benches/traces/resnet.csv.xz");
const MULTISTREAM: &[u8] = include_bytes!("../../../benches/traces/multistream.csv.xz");

#[test]
fn facts_of_a_trace() {
    let trace = parse(
        "7,10:00:00.000001,allocate,0x10,1000,0\r\n\
         8,10:00:00:000002,allocate,20,500,0x10\r\n\
         \r\n\
         7,,allocate failure,(nil),18446744073709551615,0\r\n\
         7,,free,0x10,1000,16\r\n\
         7,,allocate,0x10,300,1\r\n",
    )
    .unwrap();
    assert_eq!(trace.name(), "log.csv");
    assert_eq!(trace.operations(), 4);
    assert_eq!(trace.peak_requested_bytes(), 1500);
    assert_eq!(trace.streams(), [0, 16, 1]);
    assert_eq!(trace.threads(), [7, 8]);
    assert_eq!(trace.allocate_failures(), 1);
    assert_eq!(trace.never_freed(), 2);
    assert_eq!((0..4).map(|op| trace.line(op)).collect::<Vec<_>>(), [2, 3, 6, 7]);
    assert_eq!((0..4).map(|op| trace.thread(op)).collect::<Vec<_>>(), [0, 1, 0, 0]);
}

#[test]
fn allocations_of_no_bytes_may_share_a_pointer() {
    let trace = parse(
        "1,t,allocate,(nil),0,0\n1,t,allocate,(nil),0,0\n1,t,free,(nil),0,0\n1,t,free,(nil),0,0\n\
         1,t,free,(nil),0,0\n1,t,allocate,0x100,0,0\n1,t,allocate,0x100,8,0\n1,t,free,0x100,0,0\n",
    )
    .unwrap();
    assert_eq!(trace.operations(), 7, "a free of null that nothing matches is none");
    assert_eq!(trace.never_freed(), 1);
    assert_eq!(trace.peak_requested_bytes(), 8);
}

#[test]
fn contradictory_rows_are_errors() {
    assert_eq!(
        malformed("1,t,allocate,0x10,8,0\n1,t,allocate,0x10,8,0\n"),
        (3, Malformed::AllocatedTwice { pointer: 0x10, allocated_in: 2 })
    );
    assert_eq!(malformed("1,t,free,0x10,8,0\n"), (2, Malformed::NotAllocated { pointer: 0x10 }));
    assert_eq!(
        malformed("1,t,allocate,0x10,8,0\n1,t,free,0x10,8,0\n\n1,t,free,0x10,8,0\n"),
        (5, Malformed::NotAllocated { pointer: 0x10 })
    );
    assert_eq!(
        malformed("1,t,allocate,0x10,8,0\n1,t,free,0x10,9,0\n"),
        (3, Malformed::SizeMismatch { pointer: 0x10, allocated: 8, freed: 9, allocated_in: 2 })
    );
    assert_eq!(malformed("1,t,allocate,(nil),8,0\n"), (2, Malformed::NullPointer { size: 8 }));
    let huge = i64::MAX as u64 - 255;
    assert!(matches!(malformed(&format!("1,t,allocate,0x10,{},0\n", u64::MAX)).1, Malformed::Field { .. }));
    let rows = |n: u64| (1..=n).map(|p| format!("1,t,allocate,{p:x},{huge},0\n")).collect::<String>();
    assert!(parse(&rows(2)).is_ok());
    assert_eq!(malformed(&rows(3)), (4, Malformed::TooMany { what: "bytes live at once" }));
}

#[test]
fn messages_name_the_place_and_the_fault() {
    let error = parse("1,t,allocate,0x10,8,0\n1,t,fre,0x10,8,0\n").unwrap_err();
    assert_eq!(
        error.report().to_string(),
        "log.csv is malformed in line 3: expected the action `allocate`, `free` or `allocate failure`, found `fre`"
    );
    let error = parse("1,t,allocate,0x10,8,0\n1,t,free,0x10,80,0\n").unwrap_err();
    assert_eq!(
        error.report().to_string(),
        "log.csv is malformed in line 3: 0x10 is freed with 80 bytes, but was allocated with 8 in line 2"
    );
    let error = Trace::parse("Thread,Time\n".as_bytes(), "x").unwrap_err();
    assert_eq!(
        error.report().to_string(),
        "x is malformed in line 1: expected a header with the columns Thread, Action, Pointer, Size and Stream, found no Action"
    );
    assert_eq!(Trace::parse(HEADER.as_bytes(), "x").unwrap_err().to_string(), "x holds no allocation");
    assert!(matches!(Trace::parse(&b""[..], "x").unwrap_err(), TraceError::Empty { .. }));
    assert!(matches!(
        Trace::parse(&b"\xff\xfe\n"[..], "x").unwrap_err().report().to_string().as_str(),
        "x is malformed in line 1: expected text, found bytes that are no UTF-8"
    ));
}

#[test]
fn traces_are_read_from_files() {
    let folder = Folder::new();
    let path = folder.file("trace.log");
    std::fs::write(&path, MULTISTREAM).unwrap();
    let trace = Trace::read(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(trace.unwrap().name(), path.display().to_string());
    assert!(matches!(Trace::read(&path).unwrap_err(), TraceError::Open { .. }));
}

#[test]
fn packed_traces() {
    let trace = Trace::parse(RESNET, "resnet.csv.xz").unwrap();
    assert_eq!((trace.operations(), trace.streams().len(), trace.never_freed()), (21_659, 1, 3));
    let trace = Trace::parse(MULTISTREAM, "multistream.csv.xz").unwrap();
    assert_eq!((trace.operations(), trace.streams().len(), trace.never_freed()), (24_000, 4, 0));
}

#[test]
fn a_truncated_compressed_trace_is_an_error() {
    for length in [6, 12, 1000, RESNET.len() / 2, RESNET.len() - 1] {
        let error = Trace::parse(&RESNET[..length], "cut.csv.xz").expect_err("it breaks off");
        assert!(matches!(error, TraceError::Read { .. }), "{length}: {error}");
    }
    let mut damaged = RESNET.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    Trace::parse(damaged.as_slice(), "damaged.csv.xz").expect_err("its checksum is wrong");
}
