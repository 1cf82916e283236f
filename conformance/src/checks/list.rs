//! The list of all checks.

use crate::broken::{Broken, Verdict};
use crate::subject::Subject;
use cumem::MemoryResource;
use std::fmt::Display;

/// A check and its name.
pub(crate) struct Check<R: MemoryResource> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Subject<'_, R>) -> Result<Verdict, Broken>,
}

macro_rules! checks {
    ($($module:ident: $($name:ident),+;)+) => {
        /// Returns the checks that every resource must pass.
        pub(crate) fn checks<R: MemoryResource + Display + Sync>() -> Vec<Check<R>> {
            vec![$($(Check { name: stringify!($name), run: |subject| super::$module::$name(subject).map(Verdict::from) }),+),+]
        }
    };
}

checks! {
    layers: display_names_every_layer, chain_ends_at_the_device;
    sizes: zero_bytes, usual_sizes, odd_sizes;
    alignment: alignments_up_to_256, larger_alignments;
    capacity: more_than_there_is, nearly_the_address_space, until_there_is_no_more;
    blocks: two_live_blocks_differ, a_hundred_live_blocks, blocks_outlive_a_move;
    refusals: foreign_block, forged_block, wrong_device_on_allocate, wrong_device_on_deallocate;
    order: default_streams, passing_handles, freed_on_another_stream, reuse_waits_for_the_last_use, producer_and_consumer;
    faults: every_driver_call_fails;
    random: mixed_random, random_program;
    threads: own_streams, one_shared_stream, default_stream_of_all, own_default_streams, threads_exchange_blocks;
}
