//! Allocation traces: every file is read or refused, and a trace that was read can be replayed, after which nothing is
//! left. Besides files of any bytes there are files of well-formed rows, for which a model knows whether they are read,
//! and what the trace says of them.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use cumem::sim::Profile;
use cumem::{CudaResource, Device};
use cumem_conformance::BlockLedger;
use cumem_fuzz::steps;
use cumem_replay::{Player, Trace};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the first byte of an input is, if rows follow. The files of fuzz/seeds begin with other bytes.
const ROWS: u8 = 0;

struct Row {
    free: bool,
    pointer: u8,
    size: u16,
    stream: u8,
}

fn row(bytes: &mut Unstructured<'_>) -> Result<Row> {
    let (free, pointer) = (bytes.arbitrary()?, bytes.int_in_range(1..=16)?);
    Ok(Row { free, pointer, size: u16::arbitrary(bytes)?.max(1), stream: bytes.int_in_range(0..=3)? })
}

fuzz_target!(|bytes: &[u8]| match bytes.split_first() {
    Some((&ROWS, rows)) => {
        let rows = steps(&mut Unstructured::new(rows), row);
        compare(&rows);
    }
    _ => {
        match Trace::parse(bytes, "input") {
            Ok(trace) => replay(&trace),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

/// Reads well-formed rows, and compares with a list of live pointers.
fn compare(rows: &[Row]) {
    let mut text = String::from("Thread,Time,Action,Pointer,Size,Stream\n");
    let (mut live, mut peak, mut contradictory) = (BTreeMap::new(), 0, false);
    for row in rows {
        // A free gives the size of the allocation, but for one in 256, which gives its own.
        let own = row.size.is_multiple_of(256);
        let size = live.get(&row.pointer).copied().filter(|_| row.free && !own).unwrap_or(row.size);
        let action = if row.free { "free" } else { "allocate" };
        writeln!(text, "1,0,{action},{:#x},{size},{}", row.pointer, row.stream).unwrap();
        contradictory |=
            if row.free { live.remove(&row.pointer) != Some(size) } else { live.insert(row.pointer, size).is_some() };
        peak = peak.max(live.values().map(|&size| u64::from(size)).sum());
        if contradictory {
            break;
        }
    }
    match Trace::parse_strict(text.as_bytes(), "rows") {
        Ok(trace) => {
            assert!(!contradictory, "{text}");
            assert_eq!((trace.operations(), trace.never_freed()), (rows.len(), live.len()), "{text}");
            assert_eq!(trace.peak_requested_bytes(), peak, "{text}");
            replay(&trace);
        }
        Err(error) => assert!(contradictory || rows.is_empty(), "{error} in\n{text}"),
    }
}

fn replay(trace: &Trace) {
    for operation in 0..trace.operations() {
        assert!(trace.line(operation) >= 2, "the header comes first");
        assert!(trace.thread(operation) < trace.threads().len());
    }
    assert!(trace.never_freed() <= trace.operations());
    let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
    let resource = BlockLedger::new(CudaResource::new(&device));
    let pass = Player::new(trace, &resource).unwrap().pass(|_| ()).unwrap();
    assert!(pass.out_of_memory <= pass.operations && pass.operations <= trace.operations() as u64);
    resource.book().settle().unwrap();
}
