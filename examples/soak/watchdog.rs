//! Ends the process if a round hangs.

use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// A thread that waits for signs of life.
pub(crate) struct Watchdog(Sender<String>);

impl Watchdog {
    /// Starts to watch: each message must follow the last one within `limit`.
    pub(crate) fn start(limit: Duration) -> Self {
        let (sender, receiver) = mpsc::channel::<String>();
        thread::spawn(move || {
            let mut last = String::from("the start");
            loop {
                match receiver.recv_timeout(limit) {
                    Ok(next) => last = next,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        eprintln!("error: no end after {limit:?}: {last}");
                        process::exit(1);
                    }
                }
            }
        });
        Self(sender)
    }

    /// Notes the beginning of a round.
    pub(crate) fn watch(&self, round: String) {
        // The thread ends only after the sender.
        let _ = self.0.send(round);
    }

    /// Stops to watch.
    pub(crate) fn stop(self) {
        drop(self.0);
    }
}
