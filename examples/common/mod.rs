//! The `main` of every example: arguments, warnings, errors, and a pipe that the reader closes.

use clap::Parser;
use cumem::error::ErrorReport;
use std::error::Error;
use std::process::ExitCode;

/// Parses the arguments, runs the example, and prints an error with its causes in one line. The exit code is 1.
///
/// If `run` refuses the arguments with a `clap::Error`, the output and the exit code 2 are those of clap.
///
/// Warnings of the library go to standard error. If the reader of standard output closes the pipe, as `head` does,
/// the process ends without a message.
pub(crate) fn main<A: Parser>(run: impl FnOnce(A) -> Result<(), Box<dyn Error>>) -> ExitCode {
    main_with(|| tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init(), run)
}

/// Does the same, with a subscriber that `subscribe` sets.
pub(crate) fn main_with<A: Parser>(
    subscribe: impl FnOnce(),
    run: impl FnOnce(A) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    end_on_broken_pipe();
    let arguments = A::parse();
    subscribe();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(usage) => usage.exit(),
            Err(error) => {
                eprintln!("error: {}", ErrorReport::of(&*error));
                ExitCode::FAILURE
            }
        },
    }
}

/// Restores the default action of SIGPIPE, which ends the process. Rust ignores the signal at the start of a program,
/// and `println!` panics when its pipe is closed.
fn end_on_broken_pipe() {
    // SAFETY: the default action runs no code of this process, so no handler can be unsound.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
