//! Each resource here breaks one promise, and the suite must report it.

use crate::crooked::{Crooked, caught, free};
use cumem::error::CudaErrorCode;
use cumem::error::InvalidLayout;
use cumem::kernel::HostKernel;
use cumem::resource::MakerId;
use cumem::sim::Profile;
use cumem::{
    AllocError, Block, CudaResource, DeallocError, Device, DriverError, LayerExt, ManagedResource, MemoryResource,
    Stream, Upstream, layout,
};
use cumem_conformance::{BoxError, Expectations, Place, Suite, SuiteReport};
use std::alloc::Layout;
use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

fn managed(make: impl Fn(ManagedResource) -> Crooked) -> SuiteReport {
    Suite::new(|device: &Device| Ok::<_, BoxError>(make(ManagedResource::new(device)?)))
        .through_host()
        .run(&Place::simulated())
}

/// Returns a copy of `block` with another address, size or tag.
fn forged(block: &Block, offset: usize, size: usize, tag: u64) -> Block {
    let layout = layout::aligned(size, block.layout().align()).unwrap();
    // SAFETY: the callers stay within their allocation.
    let ptr = unsafe { block.as_non_null().add(offset) };
    Block::new(block.maker(), ptr, layout, tag)
}

#[test]
fn honest() {
    let report = managed(Crooked::over);
    assert!(report.failed().is_empty(), "{report}");
}

#[test]
fn misaligned() {
    let report = managed(|upstream| {
        let crooked = Crooked::over(upstream).allocating(|upstream, stream, layout| {
            let wide = layout::aligned(layout.size() + 64, layout.align())?;
            Ok(forged(&upstream.allocate(stream, wide)?, 64, layout.size(), 0))
        });
        crooked.deallocating(|upstream, stream, block| {
            let whole = Block::new(
                block.maker(),
                block.as_non_null().map_addr(|addr| (addr.get() - 64).try_into().unwrap()),
                block.layout(),
                0,
            );
            free(upstream, stream, whole)
        })
    });
    caught(&report, &["usual_sizes", "odd_sizes", "alignments_up_to_256", "a_hundred_live_blocks", "random_program"]);
}

#[test]
fn rounds_sizes_down() {
    // A bump allocator that rounds sizes down, so that neighbours share up to 255 bytes.
    let report = managed(|upstream| {
        let (maker, chunk, used) = (MakerId::unique(), Mutex::new(None::<Block>), Mutex::new(0));
        let crooked = Crooked::over(upstream).allocating(move |upstream, stream, layout| {
            if layout.size() > 8 << 20 || layout.align() > 256 {
                return upstream.allocate(stream, layout);
            }
            let mut chunk = chunk.lock().unwrap();
            if chunk.is_none() {
                *chunk = Some(upstream.allocate(stream, layout::bytes(1 << 34)?)?);
            }
            let mut used = used.lock().unwrap();
            let at = chunk.as_ref().map(|chunk| forged(chunk, *used, layout.size(), 0)).unwrap();
            *used += layout.size() & !255;
            Ok(Block::new(maker, at.as_non_null(), layout, 0))
        });
        crooked.deallocating(move |upstream, stream, block| match block.maker() == maker {
            true => Ok(()),
            false => free(upstream, stream, block),
        })
    });
    caught(
        &report,
        &["two_live_blocks_differ", "a_hundred_live_blocks", "mixed_random", "random_program", "own_streams"],
    );
}

#[test]
fn scribbles_on_live_blocks() {
    // The resource writes bookkeeping into the memory of the previous block.
    let report = managed(|upstream| {
        let last = Mutex::new(0_usize);
        Crooked::over(upstream).allocating(move |upstream, stream, layout| {
            let block = upstream.allocate(stream, layout)?;
            let previous = mem::replace(&mut *last.lock().unwrap(), block.as_ptr() as usize);
            let reachable = block.size() > 0 && block.size() < 8 << 20 && previous > 4096;
            // Writing to a freed block would crash the simulator, so ask the driver first.
            if reachable && upstream.device().pointer_info(previous as *const u8).is_ok() {
                // SAFETY: the driver knows the address, so it is mapped.
                unsafe { (previous as *mut u8).write(0xa5) };
            }
            Ok(block)
        })
    });
    caught(&report, &["a_hundred_live_blocks", "random_program"]);
}

#[test]
fn accepts_foreign_blocks() {
    let report = managed(|upstream| {
        let own = MakerId::unique();
        let kept = Mutex::new(HashMap::new());
        let crooked = Crooked::over(upstream).allocating(move |upstream, stream, layout| {
            let block = upstream.allocate(stream, layout)?;
            let known = Block::new(own, block.as_non_null(), layout, block.tag());
            kept.lock().unwrap().insert(known.addr(), block);
            Ok(known)
        });
        crooked.deallocating(|_, _, _| Ok(()))
    });
    caught(&report, &["foreign_block", "forged_block", "wrong_device_on_deallocate"]);
    // The resource leaks all blocks too.
    caught(&report, &["usual_sizes"]);
}

#[test]
fn returns_another_block() {
    let report = managed(|upstream| {
        Crooked::over(upstream).deallocating(|upstream, stream, block| {
            free(upstream, stream, block).map_err(|DeallocError { block, reason, .. }| {
                let changed = forged(&block, 0, block.size(), block.tag() ^ 1);
                DeallocError::new(changed, reason)
            })
        })
    });
    caught(&report, &["foreign_block", "forged_block", "wrong_device_on_deallocate"]);
}

#[test]
fn changes_the_layout() {
    let report = managed(|upstream| {
        Crooked::over(upstream).allocating(|upstream, stream, layout| {
            let rounded = layout.align_to(256).map(|layout| layout.pad_to_align());
            upstream.allocate(stream, rounded.unwrap_or(layout))
        })
    });
    caught(&report, &["usual_sizes", "alignments_up_to_256", "random_program"]);
}

#[test]
fn keeps_what_it_should_return() {
    let suite = Suite::new(|device: &Device| {
        let leaky = Crooked::over(CudaResource::new(device));
        Ok::<_, BoxError>(leaky.deallocating(|_, _, _| Ok(())))
    });
    let report = suite.through_device().run(&Place::simulated());
    caught(&report, &["usual_sizes", "random_program", "foreign_block"]);
}

#[test]
fn folds_out_of_memory_into_unknown() {
    let report = managed(|upstream| {
        Crooked::over(upstream).allocating(|upstream, stream, layout| {
            let device = upstream.device().id();
            upstream.allocate(stream, layout).map_err(|_| {
                DriverError::Call { call: "cuMemAllocManaged", device, code: CudaErrorCode::UNKNOWN }.into()
            })
        })
    });
    let found = ["more_than_there_is", "nearly_the_address_space", "larger_alignments", "wrong_device_on_allocate"];
    caught(&report, &found);
}

#[test]
fn loses_memory_at_the_limit() {
    // When a request of 1 GiB has failed, the resource frees no block any more.
    let suite = Suite::new(|device: &Device| {
        let lost = Arc::new(AtomicBool::new(false));
        let dry = Arc::clone(&lost);
        let crooked = Crooked::over(CudaResource::new(device)).allocating(move |upstream, stream, layout| {
            let result = upstream.allocate(stream, layout);
            lost.fetch_or(result.is_err() && layout.size() == 1 << 30, Relaxed);
            result
        });
        Ok::<_, BoxError>(crooked.deallocating(move |upstream, stream, block| match dry.load(Relaxed) {
            true => Ok(()),
            false => free(upstream, stream, block),
        }))
    });
    caught(&suite.run(&Place::simulated()), &["until_there_is_no_more"]);
}

#[test]
fn wraps_around() {
    // Unchecked arithmetic wraps near usize::MAX, and the number of pages wraps near 1 PiB.
    let report = managed(|upstream| {
        Crooked::over(upstream).allocating(|upstream, stream, layout| {
            let pages = (layout.size() as u64).wrapping_add(4095) as u32 as usize / 4096;
            let block = upstream.allocate(stream, layout::aligned(pages.max(1) * 4096, layout.align())?)?;
            Ok(Block::new(block.maker(), block.as_non_null(), layout, block.tag()))
        })
    });
    caught(&report, &["more_than_there_is", "nearly_the_address_space"]);
}

#[test]
fn ignores_the_device() {
    let report = managed(|upstream| {
        let own = Stream::new(upstream.device()).unwrap();
        let same = own.clone();
        let crooked = Crooked::over(upstream);
        let crooked = crooked.allocating(move |upstream, _, layout| upstream.allocate(&own, layout));
        crooked.deallocating(move |upstream, _, block| free(upstream, &same, block))
    });
    caught(&report, &["wrong_device_on_allocate", "wrong_device_on_deallocate"]);
}

#[test]
fn refuses_zero_bytes() {
    let report = managed(|upstream| {
        Crooked::over(upstream).allocating(|upstream, stream, layout| match layout.size() {
            0 => Err(InvalidLayout { size: 0, alignment: layout.align() }.into()),
            _ => upstream.allocate(stream, layout),
        })
    });
    caught(&report, &["zero_bytes", "random_program"]);
}

#[test]
fn panics_instead_of_answering() {
    let report = managed(|upstream| {
        Crooked::over(upstream).allocating(|upstream, stream, layout| {
            assert!(layout.align() <= 256, "alignment");
            upstream.allocate(stream, layout)
        })
    });
    caught(&report, &["larger_alignments"]);
    assert!(report.to_string().contains("larger_alignments: panicked: alignment"), "{report}");
}

/// A resource with a free list of whole blocks. `take` removes a block of a layout from the list.
fn hoarder<U: Upstream>(upstream: U, take: fn(&Mutex<Vec<Block>>, Layout) -> Option<Block>) -> Crooked<U> {
    let free_blocks = Arc::new(Mutex::new(Vec::<Block>::new()));
    let filled = Arc::clone(&free_blocks);
    let crooked = Crooked::over(upstream).allocating(move |upstream, stream, layout| {
        take(&free_blocks, layout).map_or_else(|| upstream.allocate(stream, layout), Ok)
    });
    crooked.deallocating(move |_, _, block| {
        filled.lock().unwrap().push(block);
        Ok(())
    })
}

/// A resource that reuses a free block on any stream without a wait.
fn hasty<U: Upstream>(upstream: U) -> Crooked<U> {
    hoarder(upstream, |free, layout| {
        let mut free = free.lock().unwrap();
        let fits = free.iter().position(|block| block.layout() == layout)?;
        Some(free.swap_remove(fits))
    })
}

fn reuses_without_waiting(place: &Place) {
    let suite = Suite::new(|device: &Device| Ok::<_, BoxError>(hasty(CudaResource::new(device))));
    caught(&suite.through_device().run(place), &["reuse_waits_for_the_last_use"]);
}

#[test]
fn reuses_without_waiting_simulated() {
    reuses_without_waiting(&Place::simulated());
}

#[test]
#[ignore = "needs a CUDA device"]
fn reuses_without_waiting_gpu() {
    reuses_without_waiting(&Place::gpu().unwrap());
}

#[test]
fn reuse_without_a_wait_is_a_race_whether_or_not_it_shows() {
    let device = Device::simulated(Profile::default()).unwrap();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let streams = [(); 2].map(|()| Stream::new(&device).unwrap());
    let resource = hasty(CudaResource::new(&device));
    let block = resource.allocate(&streams[0], layout::bytes(4096).unwrap()).unwrap();
    let addr = block.addr();
    let work = |name| HostKernel::new(name, |_| ()).writes(addr, 4096);
    // SAFETY: the closure touches no memory, and the resource keeps the block's memory.
    unsafe { streams[0].launch_host(work("the last use")) }.unwrap();
    free(&resource, &streams[0], block).unwrap();
    let again = resource.allocate(&streams[1], layout::bytes(4096).unwrap()).unwrap();
    assert_eq!(again.addr(), addr);
    // SAFETY: the closure accesses no memory, and the resource keeps the block's memory.
    unsafe { streams[1].launch_host(work("the next use")) }.unwrap();
    let races = simulator.take_races();
    assert_eq!(races.len(), 1, "{races:?}");
    assert_eq!((races[0].first.by, races[0].second.by), ("the last use", "the next use"));
    free(&resource, &streams[1], again).unwrap();
}

#[test]
fn gives_one_block_to_two_threads() {
    // The resource finds a block under the lock, releases the lock, and removes the block under the lock again.
    let report = managed(|upstream| {
        hoarder(upstream, |free, layout| {
            let same = |block: &Block| block.layout() == layout;
            let found =
                free.lock().unwrap().iter().find(|block| same(block)).map(|b| forged(b, 0, b.size(), b.tag()))?;
            thread::yield_now();
            free.lock().unwrap().retain(|block| block.addr() != found.addr());
            Some(found)
        })
    });
    let threaded = ["own_streams", "one_shared_stream", "default_stream_of_all", "threads_exchange_blocks"];
    assert!(report.failed().iter().any(|(name, _)| threaded.contains(name)), "{report}");
}

/// Runs the suite on a resource that leaks a block when it is dropped, and declares so.
fn keeper(crooked: fn(ManagedResource) -> Crooked) -> SuiteReport {
    let make = |device: &Device| {
        let crooked = crooked(ManagedResource::new(device)?);
        let _kept = crooked.allocate(&Stream::new(device)?, layout::bytes(64)?)?;
        Ok::<_, BoxError>(crooked)
    };
    let expectations = Expectations::default().keeps_memory().shares_state();
    Suite::new(make).through_host().expecting(expectations).run(&Place::simulated())
}

#[test]
fn an_adaptor_that_keeps_memory_must_pass_all_other_checks() {
    let report = keeper(Crooked::over);
    assert!(report.failed().is_empty(), "{report}");
    let report = keeper(|upstream| {
        Crooked::over(upstream).allocating(|upstream, stream, layout| {
            let block = upstream.allocate(stream, layout);
            assert!(!matches!(block, Err(AllocError::Device(_))), "no driver fails");
            block
        })
    });
    caught(&report, &["every_driver_call_fails"]);
}

#[test]
fn a_skipped_check_is_not_reported_as_passed() {
    let report = keeper(Crooked::over);
    assert_eq!(report.skipped(), [("foreign_block", "its instances share their state")]);
    assert!(!report.passed().contains(&"foreign_block"));
    let all = report.passed().len() + 1;
    let text = report.to_string();
    assert!(
        text.contains(&format!("{} of {all} conformance checks passed; foreign_block was skipped", all - 1)),
        "{text}"
    );
}
