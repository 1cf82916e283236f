//! Stacks from text: the text and the place of each error of a description.

use crate::common::{free, sim};
use cumem::{MemoryResource, layout};
use cumem_adaptors::StackSpec;

fn error(text: &str) -> String {
    format!("{}\n", StackSpec::parse(text).unwrap_err())
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
            "there is no leaf `manged`; there are device, async, virtual, managed, managed_async, pinned, pinned_async, system, host",
            "manged",
        ),
        ("pool | managed", "`pool` is an adaptor: it needs an upstream", "pool"),
        ("managed | device", "`device` is a leaf: it has no upstream", "device"),
        (
            "managed | cache",
            "there is no adaptor `cache`; there are pool, fixed_size, binning, aligned, advise, scrub, limit, statistics, log, tracking, events, graph_pools, tagged, pressure, spill, on_failure, auto_prefetch, prefetch",
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
        ("managed | limit(1GiB, rounding=1%)", "`1%` is a share of a device's memory", "rounding=1%"),
        ("device | fixed_size", "`fixed_size` takes the size of its blocks", "fixed_size"),
        ("device | fixed_size(1MiB, 2MiB)", "unknown argument `2MiB`: `fixed_size` takes one size and `keep=`", "2MiB"),
        ("device | fixed_size(50%)", "`50%` is a share of a device's memory", "50%"),
        ("device | fixed_size(1MiB, keep=few)", "`few` is not a whole number", "keep=few"),
        ("device | binning", "`binning` takes sizes", "binning"),
        ("device | binning(from=1MiB)", "`binning` takes sizes", "binning"),
        ("device | binning(from=2MiB, to=1MiB)", "the smallest size, 2097152 bytes, is above", "binning"),
        ("device | aligned", "`aligned` takes an alignment", "aligned"),
        ("device | aligned(4KiB, from=1)", "unknown argument `from=1`", "from=1"),
        ("device | advise(read_mostly)", "`device` memory cannot be prefetched: its pages do not migrate", "advise"),
        ("managed | advise", "`advise` takes advice", "advise"),
        ("managed | advise(prefer=moon)", "`moon` is no place", "prefer=moon"),
        ("managed | advise(read_often)", "unknown argument `read_often`", "read_often"),
        ("host | scrub", "`host` memory is not accessible from the device", "scrub"),
        ("device | scrub(pattern=256)", "`256` is too large", "pattern=256"),
        ("device | scrub(at=noon)", "`noon` is no time", "at=noon"),
        ("device | scrub | pool", "`pool` over `scrub` would hand out memory that is not cleared", "scrub"),
        ("managed | limit(80 percent)", "`80 percent` is no size: the unit", "80 percent"),
        ("managed | limit(120%)", "`120%` is no size: a share", "120%"),
        ("managed(1)", "unknown argument `1`: `managed` takes no arguments", "1"),
        ("managed | statistics(per_thread)", "unknown argument `per_thread`", "per_thread"),
        ("managed | auto_prefetch(256MiB)", "unknown argument `256MiB`: `auto_prefetch` takes", "256MiB"),
        ("managed | auto_prefetch(ahead=far)", "`far` is not a whole number", "ahead=far"),
        ("device | log(a.csv, b.csv)", "unknown argument `b.csv`: `log` takes a file and `flush`", "b.csv"),
        ("device | log(file=a.csv)", "unknown argument `file=a.csv`: `log` takes a file and `flush`", "file=a.csv"),
        ("device | tracking(all)", "unknown argument `all`: `tracking` takes `traces`", "all"),
        ("device | on_failure", "`on_failure` takes an action, and in text the only one is `trim`", "on_failure"),
        ("device | on_failure(call)", "unknown argument `call`: `on_failure` takes `trim` and `attempts=`", "call"),
        ("device | on_failure(trim, attempts=x)", "`x` is not a whole number", "attempts=x"),
        ("device | limit(1GiB, size=2)", "`limit` takes one size", "limit"),
        ("device | limit(name=search)", "`limit` takes one size", "limit"),
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
