use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

/// A new folder for temporary files. It is removed when this value is dropped.
///
/// No other test has the same folder, in this process or in another one: creating it fails if it exists.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates the folder.
    ///
    /// # Panics
    ///
    /// Panics if no folder can be created in the system's folder for temporary files.
    #[must_use]
    pub fn new() -> Self {
        // The first name may exist: of another test, or of a process that had this number before and was killed.
        let names = (0..).map(|n: u64| env::temp_dir().join(format!("cumem-test-{}-{n}", process::id())));
        let created = names.map(|path| (fs::create_dir(&path), path));
        let mut new = created.filter(|(result, _)| !matches!(result, Err(e) if e.kind() == ErrorKind::AlreadyExists));
        let (result, path) = new.next().expect("there are names enough");
        result.unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        Self(path)
    }

    /// The path of a file in the folder.
    #[must_use]
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A file that stays in the system's folder for temporary files fails no test.
        let _ = fs::remove_dir_all(&self.0);
    }
}
