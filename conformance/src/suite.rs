//! [`Suite`]: the factory of a resource, the expectations, and the run of all checks.

use crate::broken::{BoxError, Broken, Outcome, Verdict, ensure};
use crate::checks::{Check, checks};
use crate::contents::Contents;
use crate::effort::seed;
use crate::expectations::Expectations;
use crate::holdings::Holdings;
use crate::place::Place;
use crate::report::SuiteReport;
use crate::subject::Subject;
use cumem::error::panic_message;
use cumem::kind::{DeviceAccessible, HostAccessible};
use cumem::sim::Simulator;
use cumem::{Device, DeviceError, MemoryResource, Stream};
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Creates the [`Contents`] that access blocks of kind `K` on a device.
pub(crate) type Touch<K> = fn(&Device) -> Result<Contents<K>, DeviceError>;

/// All checks for the resources of one factory.
///
/// The macros [`conformance!`](crate::conformance!) and [`adaptor_conformance!`](crate::adaptor_conformance!) create
/// and run a suite in one line.
///
/// ```
/// use cumem::CudaResource;
/// use cumem_conformance::{Place, Suite};
///
/// let report = Suite::new(|device| Ok(CudaResource::new(device))).through_device().run(&Place::simulated());
/// assert!(report.failed().is_empty(), "{report}");
/// ```
#[must_use = "a suite that does not run checks nothing"]
pub struct Suite<R: MemoryResource, F> {
    make: F,
    touch: Touch<R::Kind>,
    expectations: Expectations,
    seed: u64,
}

impl<R, F> Suite<R, F>
where
    R: MemoryResource + Display + Sync,
    F: Fn(&Device) -> Result<R, BoxError>,
{
    /// Creates the suite. `make` creates the resource for a device, anew for each check.
    /// The contents of blocks are not accessed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::CudaResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// let suite = Suite::new(|device| Ok(CudaResource::new(device))); // a new resource for each check
    /// suite.run(&Place::simulated()).assert();
    /// ```
    pub fn new(make: F) -> Self {
        Self { make, touch: |_| Ok(Contents::untouched()), expectations: Expectations::default(), seed: seed() }
    }

    /// Makes the checks write and verify the contents of blocks through their pointers.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem::PinnedResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// Suite::new(|device| Ok(PinnedResource::new(device))).through_host().run(&Place::simulated()).assert();
    /// ```
    pub fn through_host(mut self) -> Self
    where
        R::Kind: HostAccessible,
    {
        self.touch = |_| Ok(Contents::through_host());
        self
    }

    /// Makes the checks write and verify the contents of blocks with work on the device.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem::PinnedResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// Suite::new(|device| Ok(PinnedResource::new(device))).through_device().run(&Place::simulated()).assert();
    /// ```
    pub fn through_device(mut self) -> Self
    where
        R::Kind: DeviceAccessible,
    {
        self.touch = Contents::through_device;
        self
    }

    /// Sets where the resource may differ from the default expectations.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::{CudaAsyncOptions, PoolSource};
    /// use cumem::CudaAsyncResource;
    /// use cumem_conformance::{Expectations, Place, Suite};
    ///
    /// // The driver's default pool keeps its memory, and all resources over that pool accept each other's blocks.
    /// let expectations = Expectations::default().keeps_memory().shares_state();
    /// let options = || CudaAsyncOptions::new(PoolSource::Default);
    /// let make = |device: &_| Ok(CudaAsyncResource::with_options(device, options())?);
    /// let suite = Suite::new(make).expecting(expectations);
    /// suite.run(&Place::simulated()).assert();
    /// ```
    pub fn expecting(mut self, expectations: Expectations) -> Self {
        self.expectations = expectations;
        self
    }

    /// Sets the seed of the random checks, in place of [`effort::seed`](crate::effort::seed).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use cumem::PinnedResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// let suite = Suite::new(|device| Ok(PinnedResource::new(device))).seed(7);
    /// assert!(format!("{suite:?}").contains("seed: 7"));
    /// suite.run(&Place::simulated()).assert();
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    #[doc(hidden)] // for the macros, which derive it from the kind
    pub fn touching(mut self, touch: Touch<R::Kind>) -> Self {
        self.touch = touch;
        self
    }

    /// Runs every check.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::CudaResource;
    /// use cumem_conformance::{Place, Suite};
    ///
    /// let report = Suite::new(|device| Ok(CudaResource::new(device))).run(&Place::simulated());
    /// println!("{report}"); // for example "device: 25 of 25 conformance checks passed"
    /// assert!(report.failed().is_empty());
    /// ```
    pub fn run(&self, place: &Place) -> SuiteReport {
        self.run_then(place, |_| Ok(()))
    }

    /// Runs every check. After the resource of a check has been dropped, `after` is called with the name of the check
    /// and may fail it.
    pub(crate) fn run_then(&self, place: &Place, after: impl Fn(&'static str) -> Outcome) -> SuiteReport {
        let mut report = SuiteReport::new(self.name(place), self.seed);
        for check in checks() {
            let run = || place.device().map_err(Broken::from).and_then(|device| self.run_check(&check, &device));
            let result = unless_it_panics(run);
            // `after` is called for every check, so that its state does not carry over to the next one.
            let last_word = after(check.name);
            report.add(check.name, result.and_then(|verdict| last_word.map(|()| verdict)));
        }
        report
    }

    fn run_check(&self, check: &Check<R>, device: &Device) -> Result<Verdict, Broken> {
        let before = Holdings::of(device)?;
        let subject = Subject {
            resource: (self.make)(device).map_err(|error| Broken::new("the resource was not made").because(error))?,
            device: device.clone(),
            stream: Stream::new(device)?,
            contents: (self.touch)(device)?,
            expectations: &self.expectations,
            seed: self.seed,
            make: &self.make,
        };
        let verdict = (check.run)(&subject)?;
        drop(subject);
        device.synchronize()?;
        let races = device.simulator().map(Simulator::take_races).unwrap_or_default();
        ensure!(races.is_empty(), "{} races, the first: {}", races.len(), races[0]);
        let kept = Holdings::of(device)?.since(&before);
        // Other programs allocate on a GPU too, so only a simulated device shows the memory that this resource kept.
        let known = device.is_simulated() && self.expectations.returns_all;
        ensure!(!known || kept.is_empty(), "kept {} when it was dropped", kept.join(", "));
        Ok(verdict)
    }

    fn name(&self, place: &Place) -> String {
        match place.device().map_err(BoxError::from).and_then(|device| (self.make)(&device)) {
            Ok(resource) => resource.to_string(),
            Err(error) => format!("a resource that was not made ({error})"),
        }
    }
}

/// Runs a check. A panic breaks the contract like a wrong result.
pub(crate) fn unless_it_panics<T>(run: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic_message(&*panic).unwrap_or("without a text");
        Err(Broken::new(format!("panicked: {text}")))
    })
}

impl<R: MemoryResource, F> fmt::Debug for Suite<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expectations, seed, .. } = self;
        f.debug_struct("Suite").field("expectations", expectations).field("seed", seed).finish_non_exhaustive()
    }
}
