//! The notice that a simulated device replaces a GPU.

use std::fmt;
use tracing::Level;

/// Reports as a warning event that `device` is simulated because of `reason`. If no `tracing` subscriber accepts the
/// event, the function returns the notice as a line for standard error instead, so that users read the notice once.
pub(super) fn report(device: &impl fmt::Display, reason: &str) -> Option<String> {
    if tracing::event_enabled!(Level::WARN, reason, device) {
        tracing::warn!(%reason, %device, "no CUDA driver: using a simulated device");
        return None;
    }
    Some(format!("cumem: using {device}, because there is no CUDA driver: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::sync::Arc;
    use tracing::Level;
    use tracing::subscriber::{NoSubscriber, with_default};

    const LINE: &str = "cumem: using sim:0, because there is no CUDA driver: no library";

    fn report() -> Option<String> {
        super::report(&"sim:0", "no library")
    }

    /// Returns the line for standard error, and the log of a subscriber that accepts events up to `level`.
    fn report_to(level: Level) -> (Option<String>, String) {
        let (mut reader, writer) = pipe().unwrap();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(Arc::new(writer));
        let line = with_default(subscriber.finish(), report);
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap(); // the writer is dropped with the subscriber
        (line, log)
    }

    #[test]
    fn a_subscriber_for_warnings_replaces_the_line() {
        let (line, log) = report_to(Level::WARN);
        assert_eq!(line, None);
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("WARN") && log.contains("reason=no library device=sim:0"), "{log}");
    }

    #[test]
    fn without_a_subscriber_for_warnings_the_line_is_returned() {
        assert_eq!(with_default(NoSubscriber::new(), report).as_deref(), Some(LINE));
        assert_eq!(report_to(Level::ERROR), (Some(LINE.into()), String::new()));
    }
}
