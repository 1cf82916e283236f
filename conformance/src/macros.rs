//! The macros that make the tests of a resource in one line.

/// Makes two tests of a resource. `simulated` runs on simulated devices. `gpu` is ignored unless requested (`cargo test
/// -- --ignored`), and fails if there is no GPU.
///
/// The body creates the resource for a device; `?` works in it. The capabilities of its kind decide how contents are
/// verified. A third argument sets where the resource may differ ([`Expectations`](crate::Expectations)).
///
/// ```
/// # use cumem::{HostResource, ManagedResource};
/// # use cumem_conformance::{conformance, Expectations};
/// conformance!(managed, |device| ManagedResource::new(device)?);
/// conformance!(host, |device| HostResource::new(device), Expectations::default().max_alignment(1 << 20));
/// ```
#[macro_export]
macro_rules! conformance {
    ($name:ident, |$device:ident| $body:expr $(,)?) => {
        $crate::conformance!($name, |$device| $body, $crate::Expectations::default());
    };
    ($name:ident, |$device:ident| $body:expr, $expectations:expr $(,)?) => {
        $crate::tests_of!($name, |place| {
            #[allow(unused_imports)]
            use $crate::by_kind::{ThroughDevice as _, ThroughHost as _, Untouched as _};
            let make = $crate::by_kind::factory(|$device| {
                let resource = $body;
                ::core::result::Result::Ok(resource)
            });
            let touch = (&&&$crate::by_kind::kind_of(&make)).touch();
            $crate::Suite::new(make).touching(touch).expecting($expectations).run(place)
        });
    };
}

/// Makes two tests of an adaptor, as [`conformance!`](crate::conformance!) does for a resource.
///
/// The body creates the adaptor from a [`TestUpstream`](crate::TestUpstream); `?` works in it.
/// In addition to the checks of every resource, the upstream runs out of memory or refuses blocks, and a ledger under
/// the adaptor must balance.
///
/// ```
/// # use cumem_conformance::{adaptor_conformance, BlockLedger};
/// adaptor_conformance!(ledger, |upstream| Ledger::new(upstream));
/// ```
#[macro_export]
macro_rules! adaptor_conformance {
    ($name:ident, |$upstream:ident| $body:expr $(,)?) => {
        $crate::adaptor_conformance!($name, |$upstream| $body, $crate::Expectations::default());
    };
    ($name:ident, |$upstream:ident| $body:expr, $expectations:expr $(,)?) => {
        $crate::tests_of!($name, |place| {
            let suite = $crate::AdaptorSuite::new(|$upstream| {
                let adaptor = $body;
                ::core::result::Result::Ok(adaptor)
            });
            suite.expecting($expectations).run(place)
        });
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! tests_of {
    ($name:ident, |$place:ident| $run:block) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn report($place: &$crate::Place) -> $crate::SuiteReport {
                $run
            }

            #[test]
            fn simulated() {
                report(&$crate::Place::simulated()).assert();
            }

            #[test]
            #[ignore = "needs a CUDA device"]
            fn gpu() {
                let gpu = $crate::Place::gpu();
                report(&gpu.expect("this test needs a CUDA device")).assert();
            }
        }
    };
}
