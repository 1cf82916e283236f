//! [`LogFile`]: the file of one log. No two logs of a process have the same file.
#![forbid(unsafe_code)]

use super::options::LogError;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The files of the present logs.
static OPEN: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

/// A number that a file has under all of its paths.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileId {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
}

fn open_files() -> MutexGuard<'static, Vec<FileId>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn id(_path: &Path, file: &File) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    Ok(FileId { device_and_inode: (metadata.dev(), metadata.ino()) })
}

#[cfg(not(unix))]
fn id(path: &Path, _file: &File) -> io::Result<FileId> {
    Ok(FileId { path: path.canonicalize()? })
}

/// See the [module](self). Devices such as `/dev/null` may be the file of several logs.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    id: Option<FileId>,
}

impl LogFile {
    /// Creates or truncates the file. A file that is the log of another adaptor is not changed.
    pub(super) fn create(path: &Path) -> Result<Self, LogError> {
        let fail = |source| LogError::Open { path: path.into(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(fail)?;
        if !file.metadata().map_err(fail)?.is_file() {
            return Ok(Self { file, id: None });
        }
        let id = id(path, &file).map_err(fail)?;
        {
            let mut open = open_files();
            if open.contains(&id) {
                return Err(LogError::InUse { path: PathBuf::from(path) });
            }
            open.push(id.clone());
        }
        let created = Self { file, id: Some(id) };
        created.file.set_len(0).map_err(fail)?;
        Ok(created)
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            open_files().retain(|open| open != id);
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.file.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
