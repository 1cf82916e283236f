//! Makes every driver call of a program fail in turn, and checks the objects that the program leaves behind.
//!
//! # Examples
//!
//! ```
//! use cumem::sim::{faults, Profile};
//! use cumem::{AllocError, Buffer, CudaResource, Stream};
//!
//! let report = faults::enumerate(&Profile::default(), |device| {
//!     let stream = Stream::new(device)?;
//!     let squares = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(device))?;
//!     assert_eq!(squares.to_vec()?, [1, 4, 9]);
//!     Ok::<_, AllocError>(())
//! });
//! report.assert();
//! ```

use crate::device::Device;
use cumem_driver::CudaErrorCode;
use cumem_driver::drop_error::DropErrorCounter;
use cumem_driver::panics::panic_message;
use cumem_sim::{FaultCall, LiveAllocations, Profile, Simulator};
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A driver call that was made to fail.
///
/// # Examples
///
/// ```
/// use cumem::Stream;
/// use cumem::sim::{Profile, faults};
///
/// let report = faults::enumerate(&Profile::default(), |device| Stream::new(device).map(drop));
/// for (fault, outcome) in report.runs() {
///     println!("{fault}: {outcome:?}");
/// }
/// assert!(report.runs().iter().all(|(fault, _)| fault.number >= 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The kind of the call.
    pub call: FaultCall,
    /// The position of the call among the calls of its kind, counted from 1.
    pub number: u64,
    /// The error code that the call returned.
    pub code: CudaErrorCode,
}

/// Writes, for example, `Copy call 2, answering CUDA_ERROR_UNKNOWN (999)`.
impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} call {}, answering {}", self.call, self.number, self.code)
    }
}

/// The outcome of one run of the program.
///
/// # Examples
///
/// ```
/// use cumem::Stream;
/// use cumem::sim::faults::FaultOutcome;
/// use cumem::sim::{Profile, faults};
///
/// let report = faults::enumerate(&Profile::default(), |device| Stream::new(device).map(drop));
/// assert!(report.runs().iter().any(|(_, outcome)| matches!(outcome, FaultOutcome::Failed(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultOutcome {
    /// The program succeeded in spite of the failure.
    Succeeded,
    /// The program returned this error and left nothing behind.
    Failed(String),
    /// The failed call was one that frees something, or the wait before it. The program left this behind and reported
    /// the error.
    Kept(String),
    /// The program left this behind, and either no freeing call had failed, or the program did not report the error.
    Leaked(String),
    /// The program did something that is wrong whichever call fails, such as a panic.
    Wrong(String),
}

/// The outcomes of all runs.
///
/// # Examples
///
/// ```
/// use cumem::Stream;
/// use cumem::sim::{Profile, faults};
///
/// let report = faults::enumerate(&Profile::default(), |device| Stream::new(device).map(drop));
/// assert!(report.wrong().is_empty());
/// ```
#[derive(Debug, Clone)]
#[must_use = "a report that is not checked is a test that cannot fail; call `assert`"]
pub struct FaultReport {
    calls: Vec<(FaultCall, u64)>,
    /// The outcome of the run in which no call fails.
    clean: FaultOutcome,
    runs: Vec<(Fault, FaultOutcome)>,
}

/// Runs `program` once for each of its driver calls, with that call failing.
///
/// A first run without a failure counts the calls. Then the program runs once for each call and each error code that
/// the call may return, every time on a new simulated device of `profile`.
///
/// Whichever call fails, `program` must not panic, must not leave memory, streams, events or pools behind, and must
/// leave the device usable. The program asserts its other invariants itself, for example that no counter moved; a panic
/// counts as wrong. There is one exception. If the failed call frees something, or is the wait before, that object may
/// leak. The program must then report an error: as its result, or through
/// [`take_drop_errors`](crate::error::take_drop_errors).
///
/// `program` creates all of its objects from the device in the argument, and drops them before the return. The program
/// makes the same calls in every run, up to the failing one. The program can call
/// [`pending_faults`](crate::sim::Simulator::pending_faults) to learn whether the failure has happened.
///
/// # Examples
///
/// ```
/// use cumem::sim::{Profile, faults};
/// use cumem::{AllocError, Buffer, CudaResource, Stream};
///
/// let report = faults::enumerate(&Profile::default(), |device| {
///     let stream = Stream::new(device)?;
///     let squares = Buffer::from_slice(&[1_u32, 4, 9], &stream, CudaResource::new(device))?;
///     assert_eq!(squares.to_vec()?, [1, 4, 9]);
///     Ok::<_, AllocError>(())
/// });
/// report.assert();
/// ```
pub fn enumerate<E: Display>(profile: &Profile, program: impl FnMut(&Device) -> Result<(), E>) -> FaultReport {
    enumerate_on(std::slice::from_ref(profile), program)
}

/// Does the same as [`enumerate`] on a machine with one device for each profile. `program` receives the first device;
/// its [simulator](Device::simulator) provides the others.
///
/// # Examples
///
/// ```
/// use cumem::sim::{Profile, faults};
/// use cumem::{Device, Stream};
///
/// let profiles = [Profile::default(), Profile::default()];
/// let report = faults::enumerate_on(&profiles, |first| {
///     let second = Device::of_simulator(first.simulator().unwrap(), 1)?;
///     Stream::new(&second).map(drop)
/// });
/// report.assert();
/// ```
pub fn enumerate_on<E: Display>(
    profiles: &[Profile],
    mut program: impl FnMut(&Device) -> Result<(), E>,
) -> FaultReport {
    let clean = run(profiles, None, &mut program);
    let mut report = FaultReport { calls: clean.calls, clean: clean.outcome, runs: Vec::new() };
    if !matches!(report.clean, FaultOutcome::Succeeded | FaultOutcome::Leaked(_)) {
        return report;
    }
    for &(call, calls) in &report.calls {
        for (number, &code) in (1..=calls).flat_map(|number| call.codes().iter().map(move |code| (number, code))) {
            let fault = Fault { call, number, code };
            let outcome = run(profiles, Some(fault), &mut program).outcome;
            report.runs.push((fault, outcome));
        }
    }
    report
}

struct Run {
    outcome: FaultOutcome,
    calls: Vec<(FaultCall, u64)>,
}

fn run<E: Display>(
    profiles: &[Profile],
    fault: Option<Fault>,
    program: &mut impl FnMut(&Device) -> Result<(), E>,
) -> Run {
    let simulator = match Simulator::new(profiles.iter().cloned()) {
        Ok(simulator) => simulator,
        Err(error) => return Run { outcome: FaultOutcome::Wrong(error.to_string()), calls: Vec::new() },
    };
    let opened = (0..profiles.len() as u32).map(|ordinal| Device::of_simulator(&simulator, ordinal));
    let devices: Vec<_> = match opened.collect() {
        Ok(devices) => devices,
        Err(error) => return Run { outcome: FaultOutcome::Wrong(error.to_string()), calls: Vec::new() },
    };
    if let Some(Fault { call, number, code }) = fault {
        simulator.fail_nth(call, number, code);
    }
    let drop_errors = DropErrorCounter::new(devices[0].id());
    let result = catch_unwind(AssertUnwindSafe(|| program(&devices[0]).map_err(|error| error.to_string())));
    let calls = FaultCall::ALL.iter().map(|&call| (call, simulator.calls(call))).filter(|(_, n)| *n > 0).collect();
    let happened = simulator.pending_faults() == 0;
    simulator.clear_faults();
    // The first wait may return errors of work that the program did not wait for. After it, each device must respond.
    let usable = devices.iter().try_for_each(|device| {
        device.trim_staging();
        let _ = device.synchronize();
        device.synchronize()
    });
    let live = simulator.live_allocations();
    let left = (live != LiveAllocations::default()).then(|| live.to_string());
    let reported = drop_errors.count() > 0;

    let outcome = match (result, left) {
        (Err(panic), _) => {
            FaultOutcome::Wrong(format!("it panicked: {}", panic_message(&*panic).unwrap_or("without a text")))
        }
        _ if usable.is_err() => FaultOutcome::Wrong(format!("the device is no longer usable: {usable:?}")),
        _ if !happened => FaultOutcome::Wrong("it did not make this call: its calls differ from run to run".into()),
        (Ok(result), Some(left)) => match fault {
            Some(fault) if fault.call.releases() && (result.is_err() || reported) => FaultOutcome::Kept(left),
            Some(fault) if fault.call.releases() => {
                FaultOutcome::Leaked(format!("it left {left}, and nothing said so"))
            }
            _ => FaultOutcome::Leaked(format!("it left {left}")),
        },
        (Ok(Err(error)), None) => FaultOutcome::Failed(error),
        (Ok(Ok(())), None) => FaultOutcome::Succeeded,
    };
    Run { outcome, calls }
}

impl FaultReport {
    /// Returns the number of calls of each kind that the program makes when no call fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Stream;
    /// use cumem::sim::{FaultCall, Profile, faults};
    ///
    /// let report = faults::enumerate(&Profile::default(), |device| Stream::new(device).map(drop));
    /// assert!(report.calls().contains(&(FaultCall::CreateStream, 1)));
    /// ```
    pub fn calls(&self) -> &[(FaultCall, u64)] {
        &self.calls
    }

    /// Returns all runs with a failed call, and their outcomes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Stream;
    /// use cumem::sim::{FaultCall, Profile, faults};
    ///
    /// let report = faults::enumerate(&Profile::default(), |device| Stream::new(device).map(drop));
    /// assert!(report.runs().iter().any(|(fault, _)| fault.call == FaultCall::CreateStream));
    /// ```
    pub fn runs(&self) -> &[(Fault, FaultOutcome)] {
        &self.runs
    }

    /// Returns one sentence for each run that went wrong. The list is empty if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Stream;
    /// use cumem::sim::{Profile, faults};
    ///
    /// let report = faults::enumerate(&Profile::default(), |device| {
    ///     Stream::new(device).unwrap(); // panics if the call fails
    ///     Ok::<_, String>(())
    /// });
    /// assert!(report.wrong()[0].contains("panicked"));
    /// ```
    pub fn wrong(&self) -> Vec<String> {
        self.sentences(|_| true)
    }

    /// Does the same as [`wrong`](Self::wrong) without [leaks](FaultOutcome::Leaked), for programs that leak on
    /// purpose.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::{Profile, faults};
    /// use cumem::{AllocError, Buffer, CudaResource, Stream};
    ///
    /// let report = faults::enumerate(&Profile::default(), |device| {
    ///     let stream = Stream::new(device)?;
    ///     std::mem::forget(Buffer::<u8, _>::zeroed(100, &stream, CudaResource::new(device))?);
    ///     Ok::<_, AllocError>(())
    /// });
    /// assert!(!report.wrong().is_empty());
    /// assert!(report.wrong_besides_leaks().is_empty());
    /// ```
    pub fn wrong_besides_leaks(&self) -> Vec<String> {
        self.sentences(|outcome| !matches!(outcome, FaultOutcome::Leaked(_)))
    }

    fn sentences(&self, counts: impl Fn(&FaultOutcome) -> bool) -> Vec<String> {
        let clean = match &self.clean {
            FaultOutcome::Succeeded => None,
            FaultOutcome::Failed(why)
            | FaultOutcome::Kept(why)
            | FaultOutcome::Leaked(why)
            | FaultOutcome::Wrong(why) => counts(&self.clean).then(|| format!("with no call failing: {why}")),
        };
        let runs = self.runs.iter().filter_map(|(fault, outcome)| match outcome {
            FaultOutcome::Wrong(why) | FaultOutcome::Leaked(why) => counts(outcome).then(|| format!("{fault}: {why}")),
            _ => None,
        });
        clean.into_iter().chain(runs).collect()
    }

    /// Prints the report, which is one line if no run went wrong.
    ///
    /// # Panics
    ///
    /// Panics with the whole report if a run went wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Stream;
    /// use cumem::sim::{Profile, faults};
    ///
    /// faults::enumerate(&Profile::default(), |device| Stream::new(device).map(drop)).assert();
    /// ```
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.wrong().is_empty(), "{self}");
        println!("{self}");
    }
}

/// Writes `12 driver calls (1 AllocateDevice, ...) failed in 14 ways: ...`, then a line for each run that went wrong.
impl Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.calls.iter().map(|(_, n)| n).sum();
        let kinds: Vec<_> = self.calls.iter().map(|(call, n)| format!("{n} {call}")).collect();
        let count = |which: fn(&FaultOutcome) -> bool| self.runs.iter().filter(|(_, outcome)| which(outcome)).count();
        let wrong = self.wrong();
        write!(
            f,
            "{total} driver calls ({}) failed in {} ways: {} runs succeeded, {} returned an error, {} could not give \
             everything back, {} went wrong",
            kinds.join(", "),
            self.runs.len(),
            count(|outcome| matches!(outcome, FaultOutcome::Succeeded)),
            count(|outcome| matches!(outcome, FaultOutcome::Failed(_))),
            count(|outcome| matches!(outcome, FaultOutcome::Kept(_))),
            wrong.len(),
        )?;
        wrong.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}
