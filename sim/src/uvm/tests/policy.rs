//! Experiment 4: where a fault moves a page, by advice and by the page's residency.

use super::*;

/// The effect of a fault on the page.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// The page is resident on the faulting processor only.
    Moved,
    /// The page is resident on the faulting processor and elsewhere.
    Copied,
    /// The page stayed, and the faulting processor maps it.
    Stayed,
    /// The page moved to a third processor, and the faulting processor maps it.
    AddressSource,
}

fn outcome(advice: &[(Advice, Processor)], start: Option<Processor>, by: Processor, write: bool) -> Came {
    let mut space = space(8, 2);
    let range = space.add(BLOCK, ManagedMode::Concurrent);
    if let Some(start) = start {
        prefetch(&mut space, range, 0..512, start);
    }
    for (advice, at) in advice {
        advise(&mut space, range, 0..512, *advice, *at);
    }
    touch(&mut space, range, 0..1, by, write);
    let at: Vec<bool> = resident(&space, range, 0..1).iter().map(|pages| *pages > 0).collect();
    let (here, copies) = (at[by.index()], at.iter().filter(|at| **at).count());
    match (here, copies) {
        (true, 1) => Came::Moved,
        (true, _) => Came::Copied,
        (false, _) if start.is_some_and(|start| at[start.index()]) => Came::Stayed,
        (false, _) => Came::AddressSource,
    }
}

#[test]
fn experiment_4_residency_is_selected_in_the_drivers_order() {
    let device = |d| Location::Device(DeviceId::cuda(d));
    let (mostly, no_advice) = ((Advice::SetReadMostly, HOST), &[][..]);
    let prefers_host = (Advice::SetPreferredLocation(Location::Host), HOST);
    let prefers_gpu = (Advice::SetPreferredLocation(device(0)), GPU);
    let prefers_other = (Advice::SetPreferredLocation(device(1)), OTHER);
    let accessed_by_gpu = (Advice::SetAccessedBy(device(0)), GPU);
    for (step, advice, start, by, write, expected) in [
        (1, &[mostly][..], Some(HOST), GPU, false, Came::Copied),
        (2, &[mostly], Some(HOST), GPU, true, Came::Moved),
        (3, &[prefers_gpu], Some(HOST), GPU, false, Came::Moved),
        (5, no_advice, None, GPU, true, Came::Moved),
        (5, &[prefers_host], None, GPU, true, Came::AddressSource),
        (5, &[prefers_gpu], None, HOST, true, Came::Moved), // the host cannot map device memory
        (6, &[accessed_by_gpu], Some(HOST), GPU, true, Came::Stayed),
        (6, &[accessed_by_gpu, prefers_other], Some(HOST), GPU, true, Came::Stayed),
        (8, &[prefers_host], Some(HOST), GPU, true, Came::Stayed),
        (8, &[prefers_other], Some(HOST), GPU, true, Came::AddressSource),
        (10, no_advice, Some(HOST), GPU, false, Came::Moved),
        (10, no_advice, Some(GPU), HOST, false, Came::Moved),
        (10, &[prefers_gpu], Some(GPU), HOST, false, Came::Moved),
    ] {
        assert_eq!(outcome(advice, start, by, write), expected, "step {step}: {advice:?}, {start:?}, {by:?}");
    }
}

#[test]
fn experiment_4_read_mostly_wins_over_preferred_wins_over_accessed_by() {
    let prefers_host = (Advice::SetPreferredLocation(Location::Host), HOST);
    let mostly = (Advice::SetReadMostly, HOST);
    let accessed = (Advice::SetAccessedBy(Location::Host), GPU);
    assert_eq!(outcome(&[prefers_host, accessed, mostly], Some(HOST), GPU, false), Came::Copied);
    assert_eq!(outcome(&[accessed, prefers_host], Some(HOST), GPU, false), Came::Stayed);
    // If the faulting processor is the preferred location, the page moves although it could be mapped.
    let prefers_gpu = (Advice::SetPreferredLocation(Location::Device(DeviceId::cuda(0))), GPU);
    assert_eq!(outcome(&[accessed, prefers_gpu], Some(HOST), GPU, false), Came::Moved);
}

#[test]
fn experiment_4_unset_read_mostly_collapses_to_the_preferred_location_or_to_any() {
    for (preferred, survivor) in [(None, 0), (Some(GPU), 1), (Some(OTHER), 2)] {
        let mut space = space(8, 2);
        let range = space.add(BLOCK, ManagedMode::Concurrent);
        touch(&mut space, range, 0..512, HOST, true);
        advise(&mut space, range, 0..512, Advice::SetReadMostly, HOST);
        for reader in [GPU, OTHER] {
            touch(&mut space, range, 0..512, reader, false);
        }
        if let Some(at) = preferred {
            let location = Location::Device(DeviceId::cuda(at.index() as u32 - 1));
            advise(&mut space, range, 0..512, Advice::SetPreferredLocation(location), at);
        }
        advise(&mut space, range, 0..512, Advice::UnsetReadMostly, HOST);
        let mut expected = [0; 3];
        expected[survivor] = 512;
        assert_eq!(resident(&space, range, 0..512), expected);
    }
}
