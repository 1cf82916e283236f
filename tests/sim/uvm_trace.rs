//! The simulator reproduces recorded fault traces from the access order alone: `examples/uvm_trace` on
//! `examples/data/uvm`.

use crate::trace::{Event, Processor, Totals, Trace};
use cumem::sim::{Profile, faults};
use cumem_test_support::{recorded_run, with_recorded_runs};
use std::path::Path;

fn run(text: &str) -> Vec<Event> {
    Trace::parse(text).unwrap().run(Profile::gtx1080ti()).unwrap()
}

fn accesses(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/uvm");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// For each trace: host faults (with the six of the initial fill), device faults, transfers to the device, and
/// transfers to the host.
const COUNTS: [(&str, [u64; 4]); 3] =
    [("p1.csv", [12, 6, 12, 13]), ("p2.csv", [12, 6, 13, 12]), ("p3.csv", [13, 7, 17, 16])];

#[test]
fn counts_are_those_of_the_recorded_runs() {
    for (name, counts) in COUNTS {
        let totals = Totals::of(&run(&accesses(name)));
        let found = [totals.cpu_faults, totals.gpu_faults, totals.h2d_transfers, totals.d2h_transfers];
        assert_eq!(found, counts, "{name}");
    }
}

// The recorded runs are not ours to distribute, so the repository has only their counts.
with_recorded_runs!(every_fault_and_transfer_is_that_of_the_recorded_runs);

fn every_fault_and_transfer_is_that_of_the_recorded_runs() {
    for (name, _) in COUNTS {
        let events = run(&accesses(name));
        let is_fault = |event: &Event| matches!(event, Event::Fault { .. });
        // A recording orders faults among themselves and transfers among themselves, but not one against the other.
        let (faults, transfers): (Vec<_>, Vec<_>) = recorded(recorded_run(name)).into_iter().partition(is_fault);
        let (our_faults, our_transfers): (Vec<_>, Vec<_>) = events.into_iter().partition(is_fault);
        assert_eq!(our_faults, faults, "{name}");
        assert_eq!(our_transfers, transfers, "{name}");
        println!("{name}: {} faults and {} transfers, all exact", faults.len(), transfers.len());
    }
}

fn recorded(rows: &str) -> Vec<Event> {
    let mut lines = rows.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|field| *field == name).unwrap();
    let (kind, size, offset) = (column("kind"), column("size_bytes"), column("offset"));
    let event = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        let offset = u64::from_str_radix(fields[offset].trim_start_matches("0x"), 16).unwrap();
        let of = "a".to_owned();
        match fields[kind] {
            "cpu_fault" => Event::Fault { by: Processor::Cpu, of, offset },
            "gpu_fault" => Event::Fault { by: Processor::Gpu0, of, offset },
            direction => {
                Event::Transfer { to_device: direction == "htod", of, offset, bytes: fields[size].parse().unwrap() }
            }
        }
    };
    lines.map(event).collect()
}

fn lines(text: &str) -> Vec<String> {
    run(text).iter().map(Event::to_string).collect()
}

#[test]
fn a_prefetch_stops_at_the_block_and_at_the_rounded_tail() {
    // 2 MiB and 168 KiB. The tail is rounded up to 256 KiB.
    let filled = "alloc,a,2269184\naccess,cpu,a,0,2269184,write\n";
    let fill: Vec<_> =
        [0, 64, 128, 256, 512, 1024, 2048, 2112, 2176].map(|kib| format!("fault,cpu,a,{}", kib << 10)).into();
    assert_eq!(lines(filled), fill);
    // A fault on the last page of the first block brings its 64 KiB, and no page of the next block.
    let one = lines(&format!("{filled}access,gpu0,a,2093056,1,read\n"));
    assert_eq!(one[9..], ["fault,gpu0,a,2093056", "transfer,h2d,a,2093056,4096", "transfer,h2d,a,2031616,61440"]);
    // An access across the boundary causes two faults, one in each block.
    let two = lines(&format!("{filled}access,gpu0,a,2093056,8192,write\n"));
    assert_eq!(two[12..], ["fault,gpu0,a,2097152", "transfer,h2d,a,2097152,4096", "transfer,h2d,a,2101248,61440"]);
    // If three quarters of the tail are resident, the last quarter follows. It lies past the end of the allocation.
    let tail = lines(&format!("{filled}access,gpu0,a,2097152,172032,read\n"));
    assert_eq!(tail[15..], ["fault,gpu0,a,2228224", "transfer,h2d,a,2228224,4096", "transfer,h2d,a,2232320,126976"]);
}

#[test]
fn on_later_drivers_the_tail_ends_with_its_last_page() {
    // The second block has 42 pages. 32 of them are more than 51 % of 42, but less than 51 % of 64. The test in
    // `tests/devices/cuda_driver/unified.rs` shows the same on an H100.
    let text = "alloc,a,2269184\naccess,cpu,a,0,2269184,write\n\
        access,gpu0,a,2097152,1,read\naccess,gpu0,a,2162688,1,read\naccess,gpu0,a,2228224,1,read\n";
    let transfers = |profile| {
        let events = Trace::parse(text).unwrap().run(profile).unwrap();
        let bytes = |event| if let Event::Transfer { bytes, .. } = event { Some(bytes) } else { None };
        events.into_iter().filter_map(bytes).collect::<Vec<_>>()
    };
    assert_eq!(transfers(Profile::h100_pcie5()), [4096, 61440, 4096, 102_400]);
    assert_eq!(transfers(Profile::gtx1080ti()), [4096, 61440, 4096, 61440, 4096, 126_976]);
}

#[test]
fn an_error_in_a_line_has_its_number() {
    for (text, error) in [
        ("alloc,a,12x", "line 1: BYTES is `12x`: expected a decimal number of bytes below 2^64"),
        ("# first\n\nfree,a", "line 3: `free` is no kind of line: expected alloc or access"),
        ("alloc,a", "line 1: `alloc` has 3 fields, not 2"),
        ("alloc,a,0", "line 1: an allocation has at least 1 byte"),
        ("alloc,a,1\nalloc,a,1", "line 2: `a` is no new name for an allocation"),
        ("access,cpu,a,0,1,read", "line 1: `a` was not allocated before"),
        ("alloc,a,9\naccess,gpu1,a,0,1,read", "line 2: `gpu1` is no processor: expected cpu or gpu0"),
        ("alloc,a,9\naccess,cpu,a,0,1,use", "line 2: `use` is no access: expected read or write"),
        ("alloc,a,9\naccess,cpu,a,4,6,read", "line 2: 6 bytes at 4 are not within the 9 bytes of `a`"),
        ("alloc,a,9\naccess,cpu,a,0,0,read", "line 2: an access has at least 1 byte"),
    ] {
        assert_eq!(Trace::parse(text).unwrap_err().to_string(), error);
    }
    let huge = Trace::parse("alloc,a,1\nalloc,b,99999999999999999").unwrap().run(Profile::gtx1080ti());
    assert!(huge.unwrap_err().to_string().starts_with("line 2: "));
}

#[test]
fn every_driver_call_of_a_trace_may_fail() {
    let trace = Trace::parse(&accesses("p1.csv")).unwrap();
    let report = faults::enumerate(&Profile::gtx1080ti(), |device| trace.run_on(device).map(drop));
    report.assert();
}
