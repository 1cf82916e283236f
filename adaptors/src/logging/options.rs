//! [`LogOptions`]: where a log goes and when; [`LogError`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The environment variable with the path of a log, as in RMM.
pub(super) const VARIABLE: &str = "RMM_LOG_FILE";

/// Where the rows go.
pub(super) enum Destination {
    File(PathBuf),
    Environment,
    Sink(Box<dyn Write + Send>),
}

/// Where a [`Logging`](crate::Logging) writes its rows, and how soon.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::{LogOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = CudaResource::new(&device).logging(LogOptions::sink(std::io::sink()).flush_each_row())?;
/// assert_eq!(stack.to_string(), format!("log over device on {}", device.id()));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct LogOptions {
    pub(super) destination: Destination,
    pub(super) flush_each_row: bool,
}

impl LogOptions {
    fn new(destination: Destination) -> Self {
        Self { destination, flush_each_row: false }
    }

    /// Writes to a file, which is created, or truncated if it exists. A `&str` or a `Path` is also accepted wherever
    /// options are.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).logging(LogOptions::file("/dev/null"))?; // or `.logging("/dev/null")`
    /// assert!(stack.to_string().starts_with("log(/dev/null) over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Destination::File(path.into()))
    }

    /// Writes to the file that the environment variable `RMM_LOG_FILE` names. The variable is read when the adaptor is
    /// created.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogError, LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// match CudaResource::new(&device).logging(LogOptions::env()) {
    ///     Ok(stack) => println!("{stack}"), // RMM_LOG_FILE is set
    ///     Err(LogError::NoFile) => println!("RMM_LOG_FILE is not set"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn env() -> Self {
        Self::new(Destination::Environment)
    }

    /// Writes to `sink`. Each write is a number of whole lines. No lock of this library is held during a call of the
    /// sink, so a sink may allocate from any stack, also from the one that it logs. The sink is called by the threads
    /// that allocate, by one at a time. A sink must not wait for another thread that calls
    /// [`flush`](crate::LoggingState::flush) of the same log.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).logging(LogOptions::sink(std::io::stderr()))?;
    /// assert!(stack.to_string().starts_with("log over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn sink(sink: impl Write + Send + 'static) -> Self {
        Self::new(Destination::Sink(Box::new(sink)))
    }

    /// Writes each row before the call that it logs returns, and flushes the sink. By default rows are written a few
    /// thousand at a time, so the last rows are missing if the process crashes. If another thread is writing at that
    /// moment, the row is left to that thread.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let path = std::env::temp_dir().join(format!("cumem-flush-{}.csv", std::process::id()));
    /// let stack = CudaResource::new(&device).logging(LogOptions::file(&path).flush_each_row())?;
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
    /// assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 2); // the header and a row
    /// # std::fs::remove_file(path)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush_each_row(mut self) -> Self {
        self.flush_each_row = true;
        self
    }
}

impl From<&str> for LogOptions {
    fn from(path: &str) -> Self {
        Self::file(path)
    }
}

impl From<&Path> for LogOptions {
    fn from(path: &Path) -> Self {
        Self::file(path)
    }
}

impl From<PathBuf> for LogOptions {
    fn from(path: PathBuf) -> Self {
        Self::file(path)
    }
}

impl std::fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let destination: &dyn std::fmt::Debug = match &self.destination {
            Destination::File(path) => path,
            Destination::Environment => &VARIABLE,
            Destination::Sink(_) => &"a sink",
        };
        f.debug_struct("LogOptions")
            .field("destination", destination)
            .field("flush_each_row", &self.flush_each_row)
            .finish()
    }
}

/// The error of [`Logging::new`](crate::Logging::new): the log cannot be written.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::{LogError, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let error = CudaResource::new(&device).logging("/no/such/folder/log.csv").unwrap_err();
/// assert!(matches!(error, LogError::Open { .. }));
/// assert_eq!(error.to_string(), "the log `/no/such/folder/log.csv` cannot be created");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The environment variable `RMM_LOG_FILE` is not set, or is empty.
    #[error("no file was given for the log, and the environment variable {VARIABLE} is not set")]
    NoFile,
    /// The file cannot be created or truncated.
    #[error("the log `{}` cannot be created", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Another adaptor of this process writes its log to the same file.
    #[error("the file `{}` is already the log of another adaptor", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}
