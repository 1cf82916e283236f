//! Adaptors that handle a failing upstream wrongly. The suite must report each.

use crate::crooked::{Crooked, caught, free};
use cumem::{AllocError, Block, DeallocError, MemoryResource, layout};
use cumem_conformance::{AdaptorSuite, BlockLedger, BoxError, Place, SuiteReport, TestUpstream, adaptor_conformance};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

fn report(make: impl Fn(TestUpstream) -> Crooked<TestUpstream>) -> SuiteReport {
    AdaptorSuite::new(|upstream| Ok::<_, BoxError>(make(upstream))).run(&Place::simulated())
}

adaptor_conformance!(honest, |upstream| Crooked::over(upstream));
adaptor_conformance!(doubles, |upstream| BlockLedger::new(BlockLedger::new(upstream)));

#[test]
fn leaks_when_the_second_of_two_fails() {
    // The adaptor allocates a header for each block, and leaks it if the block's own allocation fails.
    let report = report(|upstream| {
        let headers = Arc::new(Mutex::new(HashMap::new()));
        let known = Arc::clone(&headers);
        let crooked = Crooked::over(upstream).allocating(move |upstream, stream, layout| {
            let header = upstream.allocate(stream, layout::bytes(16)?)?;
            let block = upstream.allocate(stream, layout)?;
            known.lock().unwrap().entry(block.addr()).or_insert_with(Vec::new).push(header);
            Ok(block)
        });
        crooked.deallocating(move |upstream, stream, block| {
            let addr = block.addr();
            free(upstream, stream, block)?;
            let header = headers.lock().unwrap().get_mut(&addr).and_then(Vec::pop);
            header.map_or(Ok(()), |header| free(upstream, stream, header))
        })
    });
    caught(&report, &["every_driver_call_fails", "upstream_runs_dry", "random_program_with_failures"]);
    caught(&report, &["more_than_there_is"]);
}

#[test]
fn counts_what_failed() {
    // RMM's limiter before its fix: it does not subtract a failed allocation, so every failure shrinks the budget.
    let report = report(|upstream| {
        const LIMIT: usize = 48 << 20;
        let counted = Arc::new(AtomicUsize::new(0));
        let returned = Arc::clone(&counted);
        let crooked = Crooked::over(upstream).allocating(move |upstream, stream, layout| {
            let allocated = counted.load(Relaxed);
            if layout.size() > LIMIT.saturating_sub(allocated) {
                return Err(AllocError::LimitExceeded {
                    layer: "limit".into(),
                    requested: layout.size(),
                    allocated,
                    limit: LIMIT,
                });
            }
            counted.fetch_add(layout.size(), Relaxed);
            upstream.allocate(stream, layout)
        });
        crooked.deallocating(move |upstream, stream, block| {
            let size = block.size();
            free(upstream, stream, block)?;
            returned.fetch_sub(size, Relaxed);
            Ok(())
        })
    });
    caught(&report, &["upstream_runs_dry"]);
}

#[test]
fn returns_ok_when_the_upstream_failed() {
    let report = report(|upstream| {
        Crooked::over(upstream).deallocating(|upstream, stream, block| {
            let _ = free(upstream, stream, block);
            Ok(())
        })
    });
    caught(&report, &["upstream_refuses_a_block", "foreign_block", "forged_block", "wrong_device_on_deallocate"]);
}

#[test]
fn frees_twice() {
    let report = report(|upstream| {
        Crooked::over(upstream).deallocating(|upstream, stream, block| {
            let twin = Block::new(block.maker(), block.as_non_null(), block.layout(), block.tag());
            free(upstream, stream, block)?;
            let _ = free(upstream, stream, twin);
            Ok(())
        })
    });
    caught(&report, &["zero_bytes", "usual_sizes", "random_program", "every_driver_call_fails"]);
}

#[test]
fn changes_the_tag() {
    let report = report(|upstream| {
        Crooked::over(upstream).allocating(|upstream, stream, layout| {
            let block = upstream.allocate(stream, layout)?;
            Ok(Block::new(block.maker(), block.as_non_null(), layout, block.tag() + 1))
        })
    });
    caught(&report, &["usual_sizes", "random_program"]);
}

#[test]
fn leaks_its_blocks_when_dropped() {
    let report = report(|upstream| Crooked::over(upstream).deallocating(|_, _, _| Ok(())));
    caught(&report, &["usual_sizes", "every_driver_call_fails", "upstream_runs_dry"]);
}

#[test]
fn loses_the_block_that_was_refused() {
    let report = report(|upstream| {
        Crooked::over(upstream).deallocating(|upstream, stream, block| {
            free(upstream, stream, block).map_err(|DeallocError { block, reason, .. }| {
                let empty = Block::empty(block.maker(), layout::bytes(0).unwrap());
                DeallocError::new(empty, reason)
            })
        })
    });
    caught(&report, &["upstream_refuses_a_block", "foreign_block"]);
}
