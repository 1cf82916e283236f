//! Dry runs of programs and traces, and the reports about them.

mod dry_run;
mod report;
