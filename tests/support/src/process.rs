use std::env;
use std::ffi::OsString;
use std::process::Command;

/// The variable that names, in a child process, the test that the child runs.
const RUNNING: &str = "CUMEM_TEST_IN_OWN_PROCESS";

/// Makes of each function a test that runs in a process of its own, with some environment variables if there are any.
///
/// ```ignore
/// own_process!(transfers_go_on_after_a_fork);
/// own_process!(with &[("CUMEM_LIBCUDA", "/nonexistent/libcuda.so.1".into())]; calls_return_an_error);
/// own_process!(#[ignore = "needs a CUDA device"] another_context_stays_current);
/// ```
#[macro_export]
macro_rules! own_process {
    (with $environment:expr; $($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        mod alone {
            $(#[test]
            $(#[$attribute])*
            fn $name() {
                $crate::in_own_process(concat!(module_path!(), "::", stringify!($name)), $environment, super::$name);
            })+
        }
    };
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        $crate::own_process!(with &[]; $($(#[$attribute])* $name),+);
    };
}

/// Runs `body` in a child process that runs the test at `path` (`CRATE::MODULE::NAME`) and nothing else.
///
/// The test calls this function in both processes: here it starts the child and waits for it; in the child it calls
/// `body`.
///
/// # Panics
///
/// Panics if the child does not pass exactly one test.
pub fn in_own_process(path: &str, environment: &[(&str, OsString)], body: impl FnOnce()) {
    if runs_alone(path) {
        return body();
    }
    let test = in_crate(path);
    let output = Command::new(env::current_exe().expect("the test has a file"))
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(RUNNING, test)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("the test can be run again");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    print!("{stdout}");
    eprint!("{stderr}");
    // A name that matches no test runs none, which is a success for the child.
    let passed = output.status.success() && stdout.contains("test result: ok. 1 passed; 0 failed; 0 ignored");
    assert!(passed, "{test} in a process of its own: {}", output.status);
}

/// Reports whether this process is the child that runs the test at `path`.
pub(crate) fn runs_alone(path: &str) -> bool {
    env::var(RUNNING).is_ok_and(|running| running == in_crate(path))
}

/// Returns the name that the test at `path` has for the test harness: without the crate.
fn in_crate(path: &str) -> &str {
    path.split_once("::").expect("a path begins with the crate's name").1
}
