use std::ffi::{CStr, CString, OsStr, OsString, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::OnceLock;

use crate::{DriverVersion, LoadError, MissingSymbol, table};

/// The environment variable that names the library to load in place of `libcuda.so.1`.
///
/// Its value goes to `dlopen`: a path, or a bare name to be searched for. Empty counts as unset.
pub const ENV: &str = "CUMEM_LIBCUDA";

const DEFAULT: &str = "libcuda.so.1";

/// The CUDA driver library of this process. See [`load`].
#[derive(Debug)]
pub struct Library {
    handle: Handle,
    path: PathBuf,
    driver_version: DriverVersion,
}

/// Loads the CUDA driver library, once per process, and fills the table of [`SYMBOLS`].
///
/// Only the first call does any work; every call gives the same answer. A driver function called
/// before does the same first.
///
/// [`SYMBOLS`]: crate::SYMBOLS
///
/// # Errors
///
/// [`LoadError`] when there is no library or it is no CUDA driver.
pub fn load() -> Result<&'static Library, LoadError> {
    static LIBRARY: OnceLock<Result<Library, LoadError>> = OnceLock::new();
    // The table is filled before the answer is published: who has the answer can call.
    let answer = LIBRARY.get_or_init(|| {
        let library = Library::open();
        table::fill(library.as_ref().ok());
        library
    });
    answer.as_ref().map_err(LoadError::clone)
}

impl Library {
    /// The version of CUDA that the driver supports.
    #[must_use]
    pub fn driver_version(&self) -> DriverVersion {
        self.driver_version
    }

    /// The file that was loaded, as the dynamic loader found it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address of any symbol of the driver, by its exact name (`cuMemAlloc_v2`).
    ///
    /// This reaches symbols newer than [`SYMBOLS`](crate::SYMBOLS) too. The address stays valid:
    /// the library is never unloaded.
    ///
    /// # Errors
    ///
    /// [`MissingSymbol`] when the installed driver does not export it.
    pub fn symbol(&self, name: &str) -> Result<NonNull<c_void>, MissingSymbol> {
        self.handle
            .symbol(name)
            .ok_or_else(|| MissingSymbol { symbol: name.to_owned(), driver_version: self.driver_version })
    }

    /// Checks that the driver exports the symbol.
    ///
    /// # Errors
    ///
    /// [`MissingSymbol`] when it does not.
    pub fn require(&self, name: &str) -> Result<(), MissingSymbol> {
        self.symbol(name).map(drop)
    }

    fn open() -> Result<Self, LoadError> {
        let name = std::env::var_os(ENV).filter(|name| !name.is_empty()).unwrap_or_else(|| OsString::from(DEFAULT));
        let handle =
            Handle::open(&name).map_err(|reason| LoadError::NotFound { library: PathBuf::from(&name), reason })?;
        let need = |symbol| {
            handle.symbol(symbol).ok_or_else(|| LoadError::NotADriver { library: PathBuf::from(&name), symbol })
        };
        let init = need("cuInit")?;
        let get_version = need("cuDriverGetVersion")?;
        let path = file_of(init).unwrap_or_else(|| PathBuf::from(&name));
        match version(get_version) {
            Ok(driver_version) => Ok(Self { handle, path, driver_version }),
            Err(code) => Err(LoadError::NoVersion { library: path, code }),
        }
    }
}

/// What `dlopen` gave; never closed, because the table keeps addresses into the library.
#[derive(Debug)]
struct Handle(NonNull<c_void>);

// SAFETY: the handle is only ever passed to `dlsym`, which any thread may call.
unsafe impl Send for Handle {}
// SAFETY: as above, and `dlsym` may be called from several threads at once.
unsafe impl Sync for Handle {}

impl Handle {
    fn open(name: &OsStr) -> Result<Self, String> {
        let name = CString::new(name.as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: `name` is a C string. The library's constructors run: it is the CUDA driver, or
        // what the user put in its place.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Self).ok_or_else(last_error)
    }

    fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is open and `name` is a C string.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}

/// The text of the failure that `dlopen` just reported on this thread.
fn last_error() -> String {
    // SAFETY: no arguments, callable at any time.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: a C string that lives until this thread's next call of the dynamic loader.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// The file that an address was loaded from.
fn file_of(address: NonNull<c_void>) -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is writable; any address may be asked for.
    let found = unsafe { libc::dladdr(address.as_ptr(), info.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid `Dl_info`, and `dladdr` leaves it valid.
    let info = unsafe { info.assume_init() };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a C string that lives as long as the library, which is never unloaded.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(file.to_bytes())))
}

/// Asks `cuDriverGetVersion`, which needs no `cuInit`, or gives the code that it returned.
fn version(get_version: NonNull<c_void>) -> Result<DriverVersion, u32> {
    type GetVersion = unsafe extern "C" fn(*mut c_int) -> u32;
    // SAFETY: this is the driver's `cuDriverGetVersion`, whose type is stable.
    let get_version = unsafe { std::mem::transmute::<NonNull<c_void>, GetVersion>(get_version) };
    let mut raw = 0;
    // SAFETY: `raw` is writable for the call.
    let code = unsafe { get_version(&raw mut raw) };
    if code != 0 {
        return Err(code);
    }
    Ok(DriverVersion::from_raw(raw.unsigned_abs()))
}
