//! [`Trace`]: a log, checked and compiled.

use crate::compile::{Compiler, Crossing, Live, Op, Origin};
use crate::error::{Malformed, TraceError};
use crate::format::Header;
use lzma_rust2::XzReader;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The first bytes of an `.xz` file.
const XZ_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// An allocation trace, checked and compiled.
///
/// Failed allocations in the log are counted but not replayed. Frees of the null pointer are not replayed.
/// Zero-size allocations are replayed, also if they share a pointer.
///
/// ```
/// use cumem_replay::Trace;
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,0\n1,1,free,0x100,1024,0\n";
/// let trace = Trace::parse(log.as_bytes(), "two lines")?; // or `Trace::read(path)?`
/// assert_eq!((trace.operations(), trace.peak_requested_bytes(), trace.never_freed()), (2, 1024, 0));
/// assert_eq!(trace.line_of_allocation(1), Some(2)); // the header is line 1
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trace {
    name: String,
    pub(crate) ops: Vec<Op>,
    origins: Vec<Origin>,
    pub(crate) crossings: Vec<Crossing>,
    pub(crate) leftover: Vec<Live>,
    pub(crate) slots: u32,
    streams: Vec<u64>,
    threads: Vec<u64>,
    peak_requested_bytes: u64,
    failures: u64,
}

impl Trace {
    /// Reads a log in RMM's format, plain or packed with `xz`. The format is recognized by the contents, not by the
    /// file name.
    ///
    /// # Errors
    ///
    /// - Returns [`TraceError::Open`] or [`TraceError::Read`] if the file cannot be opened, read or unpacked.
    /// - Returns [`TraceError::Malformed`] with the number of the line that is wrong, and what was expected there.
    /// - Returns [`TraceError::Empty`] if the log holds no allocation.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::parse(file, name),
            Err(source) => Err(TraceError::Open { name, source }),
        }
    }

    /// Reads a log from any reader. Errors use `name` for the trace.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read), except [`TraceError::Open`].
    pub fn parse(mut reader: impl Read, name: impl Into<String>) -> Result<Self, TraceError> {
        let name = name.into();
        let mut head = Vec::new();
        if let Err(source) = reader.by_ref().take(XZ_MAGIC.len() as u64).read_to_end(&mut head) {
            return Err(TraceError::Read { name, line: 0, source });
        }
        let packed = head == XZ_MAGIC;
        let whole = io::Cursor::new(head).chain(reader);
        if packed {
            Self::parse_plain(BufReader::new(XzReader::new(BufReader::new(whole), true)), name)
        } else {
            Self::parse_plain(BufReader::new(whole), name)
        }
    }

    fn parse_plain(mut reader: impl BufRead, name: String) -> Result<Self, TraceError> {
        let mut header = None;
        let mut compiler = Compiler::default();
        let mut bytes = Vec::new();
        let mut line = 0;
        loop {
            bytes.clear();
            match reader.read_until(b'\n', &mut bytes) {
                Ok(0) => break,
                Ok(_) => line += 1,
                Err(source) => return Err(TraceError::Read { name, line, source }),
            }
            if let Err(problem) = parse_line(&bytes, line, &mut header, &mut compiler) {
                return Err(TraceError::Malformed { name, line, problem });
            }
        }
        if compiler.ops.is_empty() {
            return Err(TraceError::Empty { name });
        }
        Ok(Self {
            name,
            leftover: compiler.leftover(),
            ops: compiler.ops,
            origins: compiler.origins,
            crossings: compiler.crossings,
            slots: compiler.slots,
            streams: compiler.streams.things,
            threads: compiler.threads.things,
            peak_requested_bytes: compiler.peak_bytes,
            failures: compiler.failures,
        })
    }

    /// Returns the name of the trace: its path, if it was read from a file.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.name(), "three lines");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of allocations and frees that a pass makes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.operations(), 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn operations(&self) -> usize {
        self.ops.len()
    }

    /// Returns the most requested bytes that were live at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.peak_requested_bytes(), 1536);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn peak_requested_bytes(&self) -> u64 {
        self.peak_requested_bytes
    }

    /// Returns the logged streams, in the order in which they first appear.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.streams(), [7]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn streams(&self) -> &[u64] {
        &self.streams
    }

    /// Returns the logged threads, in the order in which they first appear.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.threads(), [1, 2]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn threads(&self) -> &[u64] {
        &self.threads
    }

    /// Returns the number of allocations that failed when the log was written. Such allocations are not replayed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.allocate_failures(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn allocate_failures(&self) -> u64 {
        self.failures
    }

    /// Returns the number of blocks that the log never frees. Each pass frees them after its last operation, outside of
    /// the measured time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.never_freed(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn never_freed(&self) -> usize {
        self.leftover.len()
    }

    /// Returns the line of an operation.
    ///
    /// # Panics
    ///
    /// Panics if `operation` is not less than [`operations`](Self::operations).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.line(0), 2); // the header is line 1
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn line(&self, operation: usize) -> u64 {
        self.origins[operation].line
    }

    /// Returns the line of the `n`-th allocation, counted from 1, or `None` past the last.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_replay::Trace;
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,7\n2,1,allocate,0x900,512,7\n1,2,free,0x100,1024,7\n";
    /// let trace = Trace::parse(log.as_bytes(), "three lines")?;
    /// assert_eq!(trace.line_of_allocation(2), Some(3));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn line_of_allocation(&self, n: u64) -> Option<u64> {
        let skip = usize::try_from(n.checked_sub(1)?).ok()?;
        let mut allocations = self.ops.iter().enumerate().filter(|(_, op)| op.allocates().is_some());
        allocations.nth(skip).map(|(operation, _)| self.line(operation))
    }

    /// Returns the thread that made an operation, as an index into [`threads`](Self::threads).
    ///
    /// # Panics
    ///
    /// Panics if `operation` is not less than [`operations`](Self::operations).
    pub fn thread(&self, operation: usize) -> usize {
        self.origins[operation].thread as usize
    }
}

fn parse_line(bytes: &[u8], line: u64, header: &mut Option<Header>, compiler: &mut Compiler) -> Result<(), Malformed> {
    let text = str::from_utf8(bytes).map_err(|_| Malformed::NotText)?.trim();
    match header {
        _ if text.is_empty() => {}
        None => *header = Some(Header::parse(text)?),
        Some(header) => compiler.push(line, header.row(text)?)?,
    }
    Ok(())
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace")
            .field("name", &self.name)
            .field("operations", &self.operations())
            .field("streams", &self.streams)
            .field("threads", &self.threads)
            .field("peak_requested_bytes", &self.peak_requested_bytes)
            .finish_non_exhaustive()
    }
}
