//! Reports contain the numbers, need no other file, and are the same in every run.

use cumem::sim::Profile;
use cumem_adaptors::StackSpec;
use cumem_replay::Trace;
use cumem_whatif::{Format, Setting, WhatIfReport, replay};
use roxmltree::{Document, ParsingOptions};

const TRACE: &str = "\
Thread,Time,Action,Pointer,Size,Stream
1,00:00:00:000000,allocate,0x1000,6291456,0
1,00:00:00:000001,allocate,0x2000,6291456,0
1,00:00:00:000002,free,0x1000,6291456,0
1,00:00:00:000003,allocate,0x3000,1000,0
1,00:00:00:000004,free,0x2000,6291456,0
";

fn report() -> WhatIfReport {
    let trace = Trace::parse(TRACE.as_bytes(), "small").unwrap();
    let runs = ["device", "managed | pool"].map(|stack| {
        let setting = Setting::new(Profile::tiny(8 << 20), StackSpec::parse(stack).unwrap()).touched();
        replay(&trace, &setting).unwrap()
    });
    WhatIfReport::new("a <small> & \"odd\" name", runs.into())
}

#[test]
fn the_page_is_well_formed_and_holds_the_numbers() {
    let (report, options) = (report(), ParsingOptions { allow_dtd: true, ..ParsingOptions::default() });
    let page = report.write(Format::Html);
    let document = Document::parse_with_options(&page, options).unwrap();
    let texts: Vec<_> = document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect();
    let has = |text: &str| texts.iter().any(|found| found.contains(text));
    assert!(has("What if: a <small> & \"odd\" name"), "{page}");
    let [device, managed] = &report.runs[..] else { panic!("{report}") };
    assert_eq!((device.out_of_memory_count, managed.out_of_memory_count), (1, 0));
    for text in [
        "Simulated",
        "6 MiB",
        &managed.evictions.to_string(),
        &managed.faults.to_string(),
        &device.out_of_memory[0].error,
        &format!("requested: {} bytes at most", managed.peak_requested),
        &format!("capacity: {} bytes", 8 << 20),
        "out of memory: allocation 2, 6291456 bytes",
        "on the device",
        &managed.provenance.to_string(),
    ] {
        assert!(has(text), "`{text}` is not on the page:\n{page}");
    }
    let charts = document.descendants().filter(|node| node.has_tag_name("svg")).count();
    assert_eq!(charts, 4, "a timeline and a map for each run");
    let drawn = document.descendants().filter(|node| node.attribute("class") == Some("on-device")).count();
    assert!(drawn > 4, "{drawn} rectangles show memory on the device");
}

#[test]
fn the_page_needs_nothing_else() {
    let page = report().write(Format::Html);
    for outside in ["http", "<script", "<link", "<img", "src=", "href=", "url(", "@import", "@font-face"] {
        assert!(!page.contains(outside), "the page has `{outside}`");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn two_runs_write_the_same_bytes() {
    for format in [Format::Text, Format::Json, Format::Html] {
        assert_eq!(report().write(format), report().write(format), "{format:?}");
    }
}

#[test]
fn json_is_marked_as_simulated_and_has_all_figures() {
    let report = report();
    let json: serde_json::Value = serde_json::from_str(&report.write(Format::Json)).unwrap();
    assert_eq!(json["simulated"], true);
    let run = &json["runs"][1];
    assert_eq!(run["stack"], "managed | pool");
    assert_eq!(run["evictions"], report.runs[1].evictions);
    assert_eq!(run["virtual_ns"], report.runs[1].virtual_ns);
    assert_eq!(run["provenance"]["measured"], report.runs[1].provenance.measured);
    assert_eq!(run["layers"][0]["layer"], "pool");
    assert_eq!(json["runs"][0]["out_of_memory"][0]["line"], 3);
    assert!(run["timeline"].as_array().is_some_and(|moments| !moments.is_empty()));
}

#[test]
fn the_text_puts_runs_side_by_side() {
    let text = report().write(Format::Text);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("Simulated:")), "{text}");
    assert_eq!(row("simulated").split_whitespace().collect::<Vec<_>>(), ["simulated", "run", "1", "run", "2"]);
    assert_eq!(row("fits").split_whitespace().collect::<Vec<_>>(), ["fits", "no", "yes,", "oversubscribed"]);
    assert!(row("peak on device").contains("8 MiB"), "{text}");
    assert!(text.contains("allocation 2, line 3, 6 MiB at"), "{text}");
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
}
