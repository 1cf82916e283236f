//! Stacks from text: the stacks that they build, and the text of every error.

use crate::common::{free, sim, sim_with};
use cumem::device::MemoryType;
use cumem::error::{CudaErrorCode, DeallocReason};
use cumem::sim::{FaultCall, Profile};
use cumem::unified::accounting::Ledger;
use cumem::{
    AnyUpstream, Block, CudaResource, DeviceError, DriverError, LayerExt, MemoryResource, PinnedResource, Stream,
    layout,
};
use cumem_adaptors::{
    AnyStack, PoolOptions, PoolState, ResourceExt, Size, SpillState, StackSpec, StatisticsState, TaggedState,
};
use std::error::Error;
use std::sync::Arc;

fn error(text: &str) -> String {
    format!("{}\n", StackSpec::parse(text).unwrap_err())
}

#[test]
fn each_description_builds_the_stack_that_it_names() {
    let (device, stream) = sim();
    for (text, display) in [
        ("managed", "managed"),
        ("device|statistics", "statistics over device"),
        ("  pinned |limit( 1 GiB )", "limit(1GiB) over pinned"),
        ("host | statistics", "statistics over host"),
        ("async(threshold=64MiB) | limit(256MB)", "limit(250000KiB) over async"),
        ("async(default)", "async"),
        ("device | tracking | pool | tracking(traces)", "tracking(traces) over pool over tracking over device"),
        ("virtual | pool", "pool over virtual"),
        ("device | pool | pool(up_to=64KiB)", "pool(up_to=64KiB) over pool over device"),
        ("device | pool(step=4MiB, divisions=8)", "pool(step=4MiB, divisions=8) over device"),
        ("managed | statistics | prefetch(host)", "prefetch(host) over statistics over managed"),
        (
            "managed | auto_prefetch(ahead=8) | prefetch",
            "prefetch(DEVICE) over auto_prefetch(budget=256MiB, ahead=8) over managed",
        ),
        (
            "device | pool | pressure(trim=70%, refuse=85%) | spill(managed | limit(50%) | pool) | limit(4GiB)",
            "limit(4GiB) over spill(managed | limit(50%) | pool) over pressure(trim=70%, refuse=85%) over pool over device",
        ),
        (
            "device | limit(1MiB) | spill(async | limit(1MiB)|spill( pinned )) | spill(managed)",
            "spill(managed) over spill(async | limit(1MiB) | spill(pinned)) over limit(1MiB) over device",
        ),
        ("pinned | pressure | statistics", "statistics over pressure(trim=80%, refuse=95%) over pinned"),
        ("managed | limit(4GiB) | prefetch()", "prefetch(DEVICE) over limit(4GiB) over managed"),
        ("managed | prefetch(always)", "prefetch(DEVICE, always) over managed"),
        ("managed | prefetch(0, pass_through)", "prefetch(DEVICE) over managed"),
        ("managed | auto_prefetch(pass_through)", "auto_prefetch(budget=256MiB, ahead=4) over managed"),
    ] {
        let spec = StackSpec::parse(text).unwrap();
        let stack = spec.build(&device).unwrap();
        let id = device.id().to_string();
        assert_eq!(stack.to_string(), format!("{} on {id}", display.replace("DEVICE", &id)));
        let block = stack.allocate(&stream, layout::bytes(1 << 20).unwrap()).unwrap();
        free(&stack, &stream, block).unwrap();
    }
}

#[test]
fn the_variant_of_a_built_stack_has_the_kind_of_its_leaf() {
    let (device, _) = sim();
    let build = |text: &str| StackSpec::parse(text).unwrap().build(&device).unwrap();
    assert!(matches!(build("managed | statistics"), AnyStack::OverManaged(_)));
    assert!(matches!(build("async | limit(1MiB)"), AnyStack::OverDevice(_)));
    assert!(build("pinned").into_device_accessible().is_ok());
    let error = build("host").into_device_accessible().unwrap_err();
    assert!(error.to_string().contains("is host memory") && matches!(error.into_stack(), AnyStack::OverHost(_)));
    assert!(matches!(build("device | spill(managed)"), AnyStack::OverEither(_)));
    assert!(build("device | spill(managed)").into_device_accessible().is_ok());
}

#[test]
fn leaf_statistics_count_the_blocks_of_the_leaf() {
    let (device, stream) = sim();
    let spec = StackSpec::parse("device | pool(initial=64MiB) | statistics").unwrap().with_leaf_statistics();
    let stack = spec.build(&device).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let counters = stack.find_all::<StatisticsState>();
    assert_eq!(counters[0].counts().current_bytes, 1000);
    assert_eq!(counters[1].counts().current_bytes, 64 << 20);
    free(&stack, &stream, block).unwrap();
}

/// Each leaf of a stack that spills counts, whatever statistics the text has itself.
#[test]
fn leaf_statistics_count_every_leaf() {
    for text in ["device | pool | spill(managed | statistics)", "device | limit(8MiB) | spill(managed)"] {
        for spec in [StackSpec::with_leaf_statistics, StackSpec::with_statistics_between] {
            let (device, stream) = sim();
            let stack = spec(StackSpec::parse(text).unwrap()).build(&device).unwrap();
            let block = stack.allocate(&stream, layout::bytes(8 * MIB).unwrap()).unwrap();
            let second = stack.allocate(&stream, layout::bytes(5 * MIB).unwrap()).unwrap();
            let leaves = cumem_adaptors::statistics::leaf_statistics(&stack);
            let reserved: Vec<i64> = leaves.iter().map(|leaf| leaf.counts().current_bytes).collect();
            let live = device.simulator().unwrap().live_allocations().bytes();
            assert_eq!((reserved.len(), reserved.iter().sum::<i64>()), (2, live as i64), "{text}: {reserved:?}");
            [block, second].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
        }
    }
}

#[test]
fn order_rules_in_the_words_of_the_types() {
    assert_eq!(
        error("managed | prefetch | statistics"),
        "\
`prefetch` cannot be the upstream of an adaptor
  managed | prefetch | statistics
            ^^^^^^^^ not an `Upstream`
  note: an adaptor that must be outermost, such as `prefetch`, is applied last
"
    );
    assert_eq!(
        error("managed | prefetch | prefetch").lines().next(),
        error("managed | prefetch | pool").lines().next()
    );
    assert_eq!(
        error("pinned | limit(80%) | prefetch"),
        "\
`pinned` memory cannot be prefetched: its pages do not migrate
  pinned | limit(80%) | prefetch
                        ^^^^^^^^ needs migratable memory
  note: build the stack on `managed` to prefetch
"
    );
    assert!(error("device | prefetch").starts_with("`device` memory cannot be prefetched"));
    assert_eq!(
        error("virtual | auto_prefetch | statistics"),
        "\
`virtual` memory cannot be prefetched: its pages do not migrate
  virtual | auto_prefetch | statistics
            ^^^^^^^^^^^^^ needs migratable memory
  note: build the stack on `managed` to prefetch
"
    );
    assert_eq!(
        error("device | pool | spill(managed | prefetch) | statistics"),
        "\
`prefetch` cannot be the upstream of an adaptor
  device | pool | spill(managed | prefetch) | statistics
                                  ^^^^^^^^ not an `Upstream`
  note: an adaptor that must be outermost, such as `prefetch`, is applied last
"
    );
    assert_eq!(
        error("managed | spill(pinned) | prefetch"),
        "\
`spill` memory cannot be prefetched: its pages do not migrate
  managed | spill(pinned) | prefetch
                            ^^^^^^^^ needs migratable memory
  note: build the stack on `managed` to prefetch
"
    );
}

#[test]
fn each_error_points_at_its_word() {
    for (text, message, word) in [
        ("", "the description is empty", ""),
        (
            "manged | pool",
            "there is no leaf `manged`; there are device, async, virtual, managed, pinned, host",
            "manged",
        ),
        ("pool | managed", "`pool` is an adaptor: it needs an upstream", "pool"),
        ("managed | device", "`device` is a leaf: it has no upstream", "device"),
        (
            "managed | cache",
            "there is no adaptor `cache`; there are pool, limit, statistics, log, tracking, tagged, pressure, spill, auto_prefetch, prefetch",
            "cache",
        ),
        ("managed | | pool", "there is nothing before or after a `|`", "|"),
        ("managed |\u{3000}| pool", "there is nothing before or after a `|`", "|"),
        ("| pool", "there is nothing before or after a `|`", "|"),
        ("tagged(x)", "`tagged` is an adaptor: it needs an upstream", "tagged"),
        ("managed | limit(80)", "`80` is 80 bytes, which is probably not meant", "80"),
        ("managed | pool(initial=5)", "`5` is 5 bytes", "initial=5"),
        ("managed | limit( 100 )", "`100` is 100 bytes", "100"),
        ("managed  |  limit(\t80\n)", "`80` is 80 bytes", "80"),
        ("  managed\n\t|  cache   (1)", "there is no adaptor `cache`", "cache"),
        ("managed |", "there is nothing before or after a `|`", "|"),
        ("managed | pool(initial=1GiB", "a `(` is not closed", "pool(initial=1GiB"),
        ("managed | pool(size=1GiB)", "unknown argument `size=1GiB`: `pool` takes", "size=1GiB"),
        ("managed | pool(divisions=few)", "`few` is not a whole number", "divisions=few"),
        ("managed | limit", "`limit` takes one size: `limit(80%)`", "limit"),
        ("managed | limit(1GiB, 2GiB)", "`limit` takes one size", "limit"),
        ("managed | limit(80 percent)", "`80 percent` is no size: the unit", "80 percent"),
        ("managed | limit(120%)", "`120%` is no size: a share", "120%"),
        ("managed(1)", "unknown argument `1`: `managed` takes no arguments", "1"),
        ("managed | statistics(per_thread)", "unknown argument `per_thread`", "per_thread"),
        ("managed | auto_prefetch(256MiB)", "unknown argument `256MiB`: `auto_prefetch` takes", "256MiB"),
        ("managed | auto_prefetch(ahead=far)", "`far` is not a whole number", "ahead=far"),
        ("device | log(a.csv, b.csv)", "unknown argument `b.csv`: `log` takes a file and `flush`", "b.csv"),
        ("device | log(file=a.csv)", "unknown argument `file=a.csv`: `log` takes a file and `flush`", "file=a.csv"),
        ("device | tracking(all)", "unknown argument `all`: `tracking` takes `traces`", "all"),
        ("device | tagged", "`tagged` takes one name", "tagged"),
        ("device | tagged(one, two)", "`tagged` takes one name", "tagged"),
        ("device | pressure(80%)", "unknown argument `80%`: `pressure` takes `trim=`", "80%"),
        ("device | pressure(trim=most)", "`most` is no size", "trim=most"),
        ("device | spill", "`spill` takes the stack to spill to", "spill"),
        ("device | spill()", "the description is empty", ""),
        ("device | spill(pool)", "`pool` is an adaptor: it needs an upstream", "pool"),
        ("device | spill(managed | limit(x)) | pool", "`x` is no size", "x"),
        ("device | spill(managed | pool", "a `(` is not closed", "spill(managed | pool"),
        ("device | spill(managed | limit(1GiB) | pool", "a `(` is not closed", "spill(managed | limit(1GiB) | pool"),
        ("host | spill(managed)", "`host` memory has no part in a `spill`", "spill"),
        ("device | spill(host | pool)", "`host` memory has no part in a `spill`", "host"),
        ("managed | prefetch(disk)", "unknown argument `disk`", "disk"),
        ("async(own)", "unknown argument `own`", "own"),
        ("managed | pool(initial=1MiB, initial=2MiB)", "`initial` is given twice", "initial=2MiB"),
        ("async(default, default)", "`default` is given twice", "default"),
        ("managed | prefetch(host, 0)", "`prefetch` has one target", "0"),
        ("device | limit(0.8)", "`0.8` is no size: bytes are whole numbers; a share is for example `80%`", "0.8"),
        ("device | limit(0.5B)", "`0.5B` is no size: bytes are whole numbers", "0.5B"),
        ("device | pool(step=1.5)", "`1.5` is no size: bytes are whole numbers", "step=1.5"),
        ("device | pool(divisions=+8)", "`+8` is not a whole number, which has digits only", "divisions=+8"),
        ("device | pool(divisions=99999999999)", "`99999999999` is too large", "divisions=99999999999"),
        ("device | pool(initial=)", "there is nothing before or after a `=`", "initial="),
        ("device | pool(grow_first,)", "there is nothing before or after a `,`", ","),
        ("managed | prefetch(+1)", "unknown argument `+1`: `prefetch` takes `host`, a device's number,", "+1"),
        ("managed | prefetch(4294967296)", "`4294967296` is too large", "4294967296"),
        ("device | tagged(weights))", "a `)` has no `(`", ")"),
        ("device) | pool", "a `)` has no `(`", ")"),
        ("device | tagged(a) | b) | (pool", "a `)` has no `(`", ")"),
        ("device | pool(grow_first) limit(1GiB)", "there is text after a `)`", "limit(1GiB)"),
        ("device | pool()()", "there is text after a `)`", "()"),
    ] {
        let error = StackSpec::parse(text).unwrap_err();
        assert!(error.message().starts_with(message), "{text}: {error}");
        assert_eq!(&text[error.span()], word, "{text}: {error}");
    }
}

#[test]
fn a_misspelt_word_and_a_missing_separator_get_advice() {
    for (text, note) in [
        ("manged | pool", "did you mean `managed`?"),
        ("Managed", "did you mean `managed`?"),
        ("unified | pool", "did you mean `managed`?"),
        ("device | pol", "did you mean `pool`?"),
        ("device | logging", "did you mean `log`?"),
        ("device | limiter(80%)", "did you mean `limit`?"),
        ("device | statistcis", "did you mean `statistics`?"),
        ("device | pool(inital=1GiB)", "did you mean `initial`?"),
        ("device | pool(initial)", "`initial` needs a value: `initial=`"),
        ("device | pool(grow_first=1)", "`grow_first` takes no value"),
        ("async(treshold=1GiB)", "did you mean `threshold`?"),
        ("managed | prefetch(hosts)", "did you mean `host`?"),
        ("managed pool", "layers are separated by `|`: `managed | pool`"),
        ("managed, pool(initial=1GiB)", "layers are separated by `|`: `managed | pool`"),
        ("managed | limit > statistics", "layers are separated by `|`: `limit | statistics`"),
        ("pool over device", "the leaf is first, and layers are separated by `|`: `device | pool`"),
        (
            "device | pool(step=1GiB) statistics",
            "layers are separated by `|`: `managed | pool(initial=1GiB) | prefetch`",
        ),
        ("cache | pool", "a stack starts with a leaf: `managed | pool | prefetch`"),
    ] {
        let shown = error(text);
        assert!(shown.ends_with(&format!("\n  note: {note}\n")), "{shown}");
    }
    assert!(!error("device | cache").contains("note"), "no word is similar");
}

#[test]
fn a_deep_or_long_description_is_refused_and_the_limits_can_be_built() {
    let deep = |depth: usize| format!("{}device{}", "device | spill(".repeat(depth), ")".repeat(depth));
    let long = |layers: usize| format!("device{}", " | pool".repeat(layers - 1));
    let first_line = |text: &str| error(text).lines().next().unwrap().to_owned();
    assert_eq!(first_line(&deep(1000)), "parentheses are nested 1000 deep, and 16 levels are the most");
    assert_eq!(first_line(&deep(17)), "parentheses are nested 17 deep, and 16 levels are the most");
    assert_eq!(first_line(&long(100_000)), "the stack has 100000 layers, and 64 are the most");
    assert_eq!(first_line(&long(65)), "the stack has 65 layers, and 64 are the most");
    let many = format!("device | pool({})", (0..100_000).map(|i| format!("x{i}")).collect::<Vec<_>>().join(", "));
    assert!(first_line(&many).starts_with("unknown argument `x0`"));
    let same = format!("device | pool({})", vec!["x"; 100_000].join(", "));
    assert_eq!(first_line(&same), "`x` is given twice");
    // A thread has 2 MiB of stack.
    let build = move || {
        let (device, stream) = sim();
        for text in [deep(16), long(64)] {
            let spec = StackSpec::parse(&text).unwrap().with_statistics_between();
            let stack = spec.build(&device).unwrap();
            let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
            free(&stack, &stream, block).unwrap();
            assert!(stack.to_string().contains("statistics over"));
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(build).unwrap().join().unwrap();
}

#[test]
fn an_error_shows_a_part_of_a_long_text() {
    let text = format!("device{} | cache{}", " | pool".repeat(30), " | limit(1GiB)".repeat(20));
    let shown = error(&text);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].starts_with("  ...") && lines[1].ends_with("..."), "{shown}");
    let column = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][column..column + 5], "cache", "{shown}");
    assert!(lines[1].len() < 200, "{shown}");
}

#[test]
fn a_feature_that_the_device_lacks_is_an_error_at_its_layer() {
    let (wsl, _) = sim_with(Profile::wsl());
    let error = StackSpec::parse("managed | statistics | prefetch").unwrap().build(&wsl).unwrap_err();
    assert_eq!(error.message(), "`prefetch` could not be created");
    assert!(error.report().to_string().contains("no concurrent managed access"), "{error:?}");
    assert_eq!(error.span(), 23..31);
    let reason = error.source().unwrap().downcast_ref::<DeviceError>().unwrap();
    assert!(matches!(reason, DeviceError::Driver(DriverError::NotSupported { .. })), "{reason}");
    let stack = StackSpec::parse("managed | prefetch(pass_through)").unwrap().build(&wsl).unwrap();
    assert!(stack.to_string().contains("passing through"), "{stack}");
}

#[test]
fn an_invalid_pool_option_is_an_error_at_the_pool() {
    let (device, _) = sim();
    let error = StackSpec::parse("device | pool(divisions=6) | statistics").unwrap().build(&device).unwrap_err();
    assert_eq!(
        format!("{error:?}"), // what `main` prints
        "\
`pool` could not be created
  device | pool(divisions=6) | statistics
           ^^^^ this layer
  cause: a pool rounds to a power of two of divisions, not to 6"
    );
    assert_eq!(error.source().unwrap().to_string(), "a pool rounds to a power of two of divisions, not to 6");
    assert_eq!(error.span(), 9..13);
}

#[test]
fn an_error_shows_a_text_of_several_lines_in_one_and_keeps_its_span() {
    let text = "\n  managed\n\t| pool\n\t| prefetch\n\t| statistics\n";
    let error = StackSpec::parse(text).unwrap_err();
    assert_eq!(&text[error.span()], "prefetch");
    assert_eq!(
        format!("{error}"),
        "\
`prefetch` cannot be the upstream of an adaptor
  managed | pool | prefetch | statistics
                   ^^^^^^^^ not an `Upstream`
  note: an adaptor that must be outermost, such as `prefetch`, is applied last"
    );
    assert_eq!(format!("{error:?}"), format!("{error}"));
    let spec = StackSpec::parse("managed\n|  pool ( divisions = 6 ) \n").unwrap();
    assert_eq!(spec.to_string(), "managed | pool ( divisions = 6 )");
    assert_eq!(StackSpec::parse("device | pool \n").unwrap(), StackSpec::parse("device | pool").unwrap());
    assert_eq!(spec.build(&sim().0).unwrap_err().span(), 11..15);
}

#[test]
fn a_small_size_needs_a_unit() {
    for text in ["limit(80B)", "limit(80%)", "limit(0)", "limit(101)", "pool(step=1.5KiB)", "pressure(ask=0)"] {
        assert!(StackSpec::parse(&format!("device | {text}")).is_ok(), "{text}");
    }
    assert_eq!(
        error("device | limit(80)"),
        "\
`80` is 80 bytes, which is probably not meant
  device | limit(80)
                 ^^ needs a unit
  note: for example `80%` or `80MiB`; a number of bytes ends in B: `80B`
"
    );
}

#[test]
fn statistics_and_limits_are_added_between_layers() {
    let (device, _) = sim();
    let spec = StackSpec::parse("managed | pool | statistics | limit(1GiB) | prefetch").unwrap();
    let built = |spec: StackSpec| spec.build(&device).unwrap().to_string().replace(&device.id().to_string(), "it");
    assert_eq!(
        built(spec.clone().with_statistics_between()),
        "prefetch(it) over statistics over limit(1GiB) over statistics over pool over statistics over managed on it"
    );
    assert_eq!(
        built(StackSpec::parse("managed").unwrap().with_leaf_limit(Size::Bytes(4096)).with_statistics_between()),
        "statistics over limit(4KiB) over statistics over managed on it"
    );
    assert_eq!(spec.to_string(), "managed | pool | statistics | limit(1GiB) | prefetch");
}

#[test]
fn a_layer_that_cannot_be_built_is_marked_in_the_error() {
    let (device, _) = sim();
    let refused = |text: &str| StackSpec::parse(text).unwrap().build(&device).unwrap_err();
    let error = refused("device | pressure(trim=90%, refuse=80%)");
    assert!(error.source().unwrap().to_string().starts_with("levels must be slack"), "{error}");
    assert_eq!(error.span(), 9..17);
    let (wsl, _) = sim_with(Profile::wsl());
    let spec = StackSpec::parse("device | spill(managed | auto_prefetch)").unwrap();
    let error = spec.build(&wsl).unwrap_err();
    assert!(error.report().to_string().contains("no concurrent managed access"), "{error:?}");
    assert_eq!(error.span(), 25..38);
    assert_eq!(
        refused("managed | tagged(weights)").to_string(),
        "\
`tagged` gives a ledger a name, and there is no ledger
  managed | tagged(weights)
            ^^^^^^ needs a ledger
  note: build the stack with `StackSpec::build_with_ledger`"
    );
}

#[test]
fn a_tag_from_text_is_entered_in_the_ledger() {
    let (device, stream) = sim();
    let ledger = Arc::new(Ledger::new(&device));
    let spec = StackSpec::parse("managed | pool | tagged(weights) | prefetch").unwrap();
    let stack = spec.build_with_ledger(&device, &ledger).unwrap();
    assert_eq!(stack.find::<TaggedState>().unwrap().as_str(), "weights");
    let block = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap();
    let report = ledger.report();
    assert_eq!((&*report.rows[0].tag, report.rows[0].bytes), ("weights", MIB as u64), "{report}");
    free(&stack, &stream, block).unwrap();
}

#[test]
fn a_spill_from_text_spills() {
    let (device, stream) = sim();
    let spec = StackSpec::parse("device | limit(1MiB) | spill(managed | limit(1MiB)) | statistics").unwrap();
    let stack = spec.build(&device).unwrap();
    let one = || stack.allocate(&stream, layout::bytes(MIB).unwrap());
    let (first, second) = (one().unwrap(), one().unwrap());
    let kind = |block: &Block| device.pointer_info(block.as_ptr()).unwrap().memory_type;
    assert_eq!((kind(&first), kind(&second)), (MemoryType::Device, MemoryType::Unified));
    assert!(one().unwrap_err().is_out_of_memory());
    assert_eq!(stack.find::<SpillState>().unwrap().bytes(), MIB);
    for block in [second, first] {
        free(&stack, &stream, block).unwrap();
    }
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

const MIB: usize = 1 << 20;

/// Allocates blocks of 8, 2 and 8 MiB, and frees the first and the third. Returns the second.
fn use_and_keep(stack: &AnyStack, stream: &Stream) -> Block {
    let [large, kept, other] = [8, 2, 8].map(|n| stack.allocate(stream, layout::bytes(n * MIB).unwrap()).unwrap());
    free(stack, stream, large).unwrap();
    free(stack, stream, other).unwrap();
    kept
}

#[test]
fn a_stack_from_text_frees_its_unused_memory_on_trim() {
    for text in [
        "device | pool(step=2MiB)",
        "device | pool(step=2MiB) | limit(80%) | statistics",
        "virtual | statistics | pool(step=2MiB)",
        "managed | pool(step=2MiB) | prefetch",
        "pinned | limit(1GiB) | pool(step=2MiB)",
        "host | pool(step=2MiB)",
    ] {
        let (device, stream) = sim();
        let stack = StackSpec::parse(text).unwrap().with_leaf_statistics().build(&device).unwrap();
        let kept = use_and_keep(&stack, &stream);
        let reserved = || stack.find_all::<StatisticsState>().last().unwrap().counts().current_bytes;
        assert_eq!(reserved(), 18 * MIB as i64, "{text}");
        assert_eq!(stack.trim_stack(18 * MIB), Ok(0), "{text}");
        // The pool frees the highest free chunk first, and one chunk is enough.
        let (given, rest) = (stack.trim_stack(17 * MIB).unwrap(), stack.trim_stack(0).unwrap());
        assert!((MIB..=8 * MIB).contains(&given), "{text}: {given}");
        assert_eq!((given + rest, reserved()), (16 * MIB, 2 * MIB as i64), "{text}");
        assert_eq!(stack.find::<PoolState>().unwrap().stats().free, 0, "{text}");
        free(&stack, &stream, kept).unwrap();
        let stack = AnyStack::into_device_accessible(stack);
        let given = stack.map_or_else(|error| error.into_stack().trim_stack(0), |stack| stack.trim_stack(0));
        assert_eq!(given, Ok(2 * MIB), "{text}");
    }
}

#[test]
fn each_layer_frees_its_unused_memory_on_trim() {
    let (device, stream) = sim();
    let build = |text: &str| StackSpec::parse(text).unwrap().build(&device).unwrap();
    let simulator = device.simulator().unwrap();

    // One pool over another: the outer pool frees to the inner one, and the inner one to the driver.
    let stack = build("device | pool(step=2MiB) | pool(step=2MiB)");
    let kept = use_and_keep(&stack, &stream);
    free(&stack, &stream, kept).unwrap();
    assert_eq!(stack.trim_stack(0), Ok(18 * MIB), "counted once");
    assert!(simulator.live_allocations().no_memory());

    // The driver's pool.
    let stack = build("async(threshold=1GiB) | statistics");
    let kept = use_and_keep(&stack, &stream);
    free(&stack, &stream, kept).unwrap();
    stream.synchronize().unwrap();
    let before = device.memory_info().unwrap().free;
    let given = stack.trim_stack(0).unwrap();
    assert!(given >= 18 * MIB, "{given}");
    assert_eq!(device.memory_info().unwrap().free - before, given);

    // The second resource of a spill.
    let first = CudaResource::new(&device).limit(0);
    let second = PinnedResource::new(&device).pool(PoolOptions::new()).unwrap();
    let stack = AnyUpstream::new(first.spill_to(second).unwrap());
    let spilled = stack.allocate(&stream, layout::bytes(2 * MIB).unwrap()).unwrap();
    free(&stack, &stream, spilled).unwrap();
    assert_eq!(stack.trim_stack(0), Ok(2 * MIB));
    assert!(simulator.live_allocations().no_memory());
}

#[test]
fn a_chunk_that_cannot_be_freed_stays_and_the_error_has_the_reason() {
    let (device, stream) = sim();
    let stack = StackSpec::parse("device | pool(step=2MiB) | statistics").unwrap().build(&device).unwrap();
    let kept = use_and_keep(&stack, &stream);
    free(&stack, &stream, kept).unwrap();
    let simulator = device.simulator().unwrap();
    simulator.fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let before = stack.find::<PoolState>().unwrap().stats().reserved;
    let refused = stack.trim_stack(0).unwrap_err();
    assert!(
        matches!(&refused.reason, DeallocReason::Device(error) if error.code() == Some(CudaErrorCode::UNKNOWN)),
        "{refused}"
    );
    let reserved = stack.find::<PoolState>().unwrap().stats().reserved;
    assert_eq!(reserved, 8 * MIB, "one chunk was refused");
    assert_eq!(refused.trimmed + reserved, before);
    assert_eq!(stack.trim_stack(0), Ok(reserved));
}
