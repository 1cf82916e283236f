/// Makes of each function a test that compares with the recorded runs.
///
/// Where the runs did not lie beside the repository when this was built, the tests are ignored.
#[macro_export]
macro_rules! with_recorded_runs {
    ($($name:ident),+ $(,)?) => {
        mod recorded_runs {
            $($crate::needs_recorded_runs!(fn $name() { super::$name() });)+
        }
    };
}

#[cfg(recorded_runs)]
#[doc(hidden)]
#[macro_export]
macro_rules! needs_recorded_runs {
    (fn $name:ident() $body:block) => {
        #[test]
        fn $name() $body
    };
}

#[cfg(not(recorded_runs))]
#[doc(hidden)]
#[macro_export]
macro_rules! needs_recorded_runs {
    (fn $name:ident() $body:block) => {
        #[test]
        #[ignore = "needs the recorded runs, which are not part of the repository"]
        fn $name() $body
    };
}

/// Returns the rows of a recorded run, which are part of the test's binary.
///
/// # Panics
///
/// Panics if there is no such run, or if none lay beside the repository when this was built.
#[must_use]
pub fn recorded_run(name: &str) -> &'static str {
    #[cfg(recorded_runs)]
    return match name {
        "p1.csv" => include_str!(concat!(env!("RECORDED_RUNS"), "/p1.csv")),
        "p2.csv" => include_str!(concat!(env!("RECORDED_RUNS"), "/p2.csv")),
        "p3.csv" => include_str!(concat!(env!("RECORDED_RUNS"), "/p3.csv")),
        _ => panic!("there is no recorded run {name}"),
    };
    #[cfg(not(recorded_runs))]
    panic!("needs {name}, which was not beside the repository when this was built");
}
