//! [`LoggingState`]: the log of a stack.

use super::file::LogFile;
use super::log::Log;
use super::options::{Destination, LogError, LogOptions, VARIABLE};
use crate::at_exit::at_exit;
use cumem::error::{DropError, record_drop_error};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The log of a [`Logging`](super::Logging).
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, Buffer, CudaResource, Device, LayerExt, Stream};
/// use cumem_adaptors::{LogOptions, LoggingState, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaResource::new(&device).logging(LogOptions::sink(std::io::sink()))?);
/// drop(Buffer::<u8, _>::zeroed(1000, &Stream::new(&device)?, &stack)?);
/// let log = stack.find::<LoggingState>().unwrap();
/// log.flush()?;
/// assert_eq!(log.written_rows(), 2); // an allocation and a free
/// # Ok(())
/// # }
/// ```
pub struct LoggingState {
    pub(super) log: Arc<Log>,
    path: Option<PathBuf>,
}

impl LoggingState {
    pub(super) fn new(options: LogOptions) -> Result<Self, LogError> {
        let path = match &options.destination {
            Destination::File(path) => Some(path.clone()),
            Destination::Environment => {
                let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
                Some(path.ok_or(LogError::NoFile)?.into())
            }
            Destination::Sink(_) => None,
        };
        let sink: Box<dyn Write + Send> = match (options.destination, &path) {
            (Destination::Sink(sink), _) => sink,
            (_, Some(path)) => Box::new(LogFile::create(path)?),
            (_, None) => return Err(LogError::NoFile),
        };
        let log = Log::new(sink, options.flush_each_row);
        at_exit(Arc::downgrade(&log) as _);
        Ok(Self { log, path })
    }

    /// Writes all rows of calls that have returned.
    ///
    /// # Errors
    ///
    /// Returns the first error that the sink has returned since the log began. Later rows are still passed to the sink.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Buffer, Stream};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).logging(LogOptions::sink(std::io::sink()))?;
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
    /// assert_eq!(stack.state().written_rows(), 0); // rows wait until there are many
    /// stack.state().flush()?;
    /// assert_eq!(stack.state().written_rows(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> io::Result<()> {
        self.log.flush()
    }

    /// Returns the number of rows that were written. Rows that wait in a buffer are not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).logging(LogOptions::sink(std::io::sink()))?;
    /// assert_eq!(stack.state().written_rows(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn written_rows(&self) -> u64 {
        self.log.written()
    }

    /// Returns the number of rows that the sink refused with an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let full: &mut [u8] = &mut []; // a sink without room
    /// # let full: &'static mut [u8] = &mut [];
    /// let stack = CudaResource::new(&device).logging(LogOptions::sink(full))?;
    /// let buffer = Buffer::<u8, _>::zeroed(1000, &Stream::new(&device)?, &stack)?; // succeeds
    /// assert!(stack.state().flush().is_err());
    /// assert_eq!(stack.state().lost_rows(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn lost_rows(&self) -> u64 {
        self.log.lost()
    }

    /// Returns the file, or `None` if the log has a sink.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{LogOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).logging(LogOptions::sink(std::io::sink()))?;
    /// assert_eq!(stack.state().path(), None);
    /// let stack = CudaResource::new(&device).logging("/dev/null")?;
    /// assert_eq!(stack.state().path(), Some(std::path::Path::new("/dev/null")));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) if self.log.flushes_each_row() => write!(f, "log({}, flush)", path.display()),
            Some(path) => write!(f, "log({})", path.display()),
            None => f.write_str("log"),
        }
    }
}

impl Drop for LoggingState {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            record_drop_error("a log", Err(NotWritten { rows: self.lost_rows(), error }));
        }
    }
}

impl fmt::Debug for LoggingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggingState")
            .field("path", &self.path)
            .field("written_rows", &self.written_rows())
            .field("lost_rows", &self.lost_rows())
            .finish()
    }
}

/// Rows that the sink refused.
struct NotWritten {
    rows: u64,
    error: io::Error,
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows could not be written: {}", self.rows, self.error)
    }
}

impl DropError for NotWritten {}
