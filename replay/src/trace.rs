//! [`Trace`]: a log, checked and compiled.

use crate::compile::{Compiler, Crossing, Live, Op, Origin};
use crate::error::{Malformed, TraceError};
use crate::format::Header;
use lzma_rust2::XzReader;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes that a line may have. A row has about 70.
const LINE_MAX: usize = 64 << 10;
/// The first bytes of a text file that some programs write (U+FEFF in UTF-8).
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// The first bytes of an `.xz` file.
const XZ_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// An allocation trace, checked and compiled.
///
/// Failed allocations in the log are counted but not replayed. Frees of the null pointer are not replayed.
/// Zero-size allocations are replayed, also if they share a pointer.
///
/// A log may begin while the program runs, and may end in the middle of its last row, because the program crashed. Frees
/// of blocks that the log never allocates, and a last row without its end, are counted and left out
/// ([`frees_of_earlier`](Self::frees_of_earlier), [`cut_off_line`](Self::cut_off_line)).
/// [`read_strict`](Self::read_strict) refuses such a log.
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
    frees_of_earlier: u64,
    cut_off_line: Option<u64>,
}

impl Trace {
    /// Reads a log in RMM's format, plain or packed with `xz`. The format is recognized by the contents, not by the
    /// file name.
    ///
    /// # Errors
    ///
    /// - Returns [`TraceError::Open`] or [`TraceError::Read`] if the file cannot be opened, read or unpacked.
    /// - Returns [`TraceError::Malformed`] with the number of the wrong line, and the text that was expected there.
    /// - Returns [`TraceError::Empty`] if the log holds no allocation.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        Self::open(path.as_ref(), false)
    }

    /// Reads a log as [`read`](Self::read) does, and refuses one that begins late or is cut off.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read). A free of a block that no line before allocates, and a last row
    /// without its end, are [`TraceError::Malformed`].
    pub fn read_strict(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        Self::open(path.as_ref(), true)
    }

    fn open(path: &Path, strict: bool) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::unpack(file, name, strict),
            Err(source) => Err(TraceError::Open { name, source }),
        }
    }

    /// Reads a log from any reader. Errors use `name` for the trace.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read), except [`TraceError::Open`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_replay::Trace;
    ///
    /// // The first free is of a block that was allocated before the log began. The last row is cut off.
    /// let log = "Thread,Time,Action,Pointer,Size,Stream\n\
    ///            1,0,free,0x900,64,0\n1,1,allocate,0x100,1024,0\n1,2,fre";
    /// let trace = Trace::parse(log.as_bytes(), "log.csv")?;
    /// assert_eq!((trace.operations(), trace.frees_of_earlier(), trace.cut_off_line()), (1, 1, Some(4)));
    /// assert!(Trace::parse_strict(log.as_bytes(), "log.csv").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(reader: impl Read, name: impl Into<String>) -> Result<Self, TraceError> {
        Self::unpack(reader, name.into(), false)
    }

    /// Reads a log from any reader, as strictly as [`read_strict`](Self::read_strict).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read_strict`](Self::read_strict), except [`TraceError::Open`].
    pub fn parse_strict(reader: impl Read, name: impl Into<String>) -> Result<Self, TraceError> {
        Self::unpack(reader, name.into(), true)
    }

    fn unpack(mut reader: impl Read, name: String, strict: bool) -> Result<Self, TraceError> {
        let mut head = Vec::new();
        if let Err(source) = reader.by_ref().take(XZ_MAGIC.len() as u64).read_to_end(&mut head) {
            return Err(TraceError::Read { name, line: 0, source });
        }
        let packed = head == XZ_MAGIC;
        let whole = io::Cursor::new(head).chain(reader);
        if packed {
            Self::parse_plain(BufReader::new(XzReader::new(BufReader::new(whole), true)), name, strict)
        } else {
            Self::parse_plain(BufReader::new(whole), name, strict)
        }
    }

    fn parse_plain(mut reader: impl BufRead, name: String, strict: bool) -> Result<Self, TraceError> {
        let mut header = None;
        let mut compiler = Compiler::new(strict);
        let mut bytes = Vec::new();
        let (mut line, mut cut_off_line) = (0, None);
        loop {
            bytes.clear();
            match reader.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut bytes) {
                Ok(0) => break,
                Ok(_) => line += 1,
                Err(source) => return Err(TraceError::Read { name, line, source }),
            }
            let text = if line == 1 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes) } else { &bytes };
            // Only the last line has no end. The program that wrote the log may not have written all of it.
            let may_be_cut = !strict && header.is_some() && !text.ends_with(b"\n") && text.len() <= LINE_MAX;
            if let Err(problem) = parse_line(text, line, &mut header, &mut compiler) {
                if may_be_cut {
                    cut_off_line = Some(line);
                    break;
                }
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
            frees_of_earlier: compiler.frees_of_earlier,
            cut_off_line,
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

    /// Returns the number of frees of blocks that no row of the log allocates, because they were allocated before the
    /// log began. They are not replayed.
    pub fn frees_of_earlier(&self) -> u64 {
        self.frees_of_earlier
    }

    /// Returns the line of the last row, if the row is malformed and has no end of line: the log was cut off there. The
    /// row is not replayed.
    pub fn cut_off_line(&self) -> Option<u64> {
        self.cut_off_line
    }

    /// Returns a sentence about the operations that are missing from the log, or `None` if no operation is missing.
    pub fn gaps(&self) -> Option<String> {
        let (name, earlier) = (&self.name, self.frees_of_earlier);
        let late =
            (earlier > 0).then(|| format!("{name} begins late: {earlier} frees are of blocks that it never allocates"));
        let cut = self.cut_off_line.map(|line| format!("{name} is cut off in line {line}"));
        match (late, cut) {
            (Some(late), Some(cut)) => Some(format!("{late}; {cut}")),
            (late, cut) => late.or(cut),
        }
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
    if bytes.len() > LINE_MAX {
        return Err(Malformed::LongLine { most: LINE_MAX });
    }
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
