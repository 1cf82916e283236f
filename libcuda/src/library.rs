use std::ffi::{CStr, CString, OsStr, OsString, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use crate::error::{LoadError, MissingSymbol};
use crate::version::DriverVersion;

/// The environment variable that names a library to load instead of `libcuda.so.1`.
///
/// Its value is passed to `dlopen`: a path, or a bare name that is searched for. An empty value counts as unset.
pub const ENV: &str = "CUMEM_LIBCUDA";

const DEFAULT: &str = "libcuda.so.1";

/// The CUDA driver library of this process. [`load`](crate::load()) returns it.
///
/// ```
/// if let Ok(driver) = cumem_libcuda::load() {
///     println!("CUDA {} in {}", driver.driver_version(), driver.path().display());
///     assert!(driver.require("cuInit").is_ok());
/// }
/// ```
#[derive(Debug)]
pub struct Library {
    handle: Handle,
    path: PathBuf,
    driver_version: DriverVersion,
}

impl Library {
    /// Returns the version of CUDA that the driver supports.
    #[must_use]
    pub fn driver_version(&self) -> DriverVersion {
        self.driver_version
    }

    /// Returns the path of the loaded file, as the dynamic loader found it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the address of a symbol of the driver, by its exact name (for example `cuMemAlloc_v2`).
    ///
    /// The symbol may be newer than [`SYMBOLS`](crate::SYMBOLS). The address stays valid, because the library is never
    /// unloaded.
    ///
    /// # Errors
    ///
    /// Returns [`MissingSymbol`] if the installed driver does not export the symbol.
    pub fn symbol(&self, name: &str) -> Result<NonNull<c_void>, MissingSymbol> {
        self.handle
            .symbol(name)
            .ok_or_else(|| MissingSymbol { symbol: name.to_owned(), driver_version: self.driver_version })
    }

    /// Checks that the driver exports a symbol.
    ///
    /// # Errors
    ///
    /// Returns [`MissingSymbol`] if the driver does not export the symbol.
    pub fn require(&self, name: &str) -> Result<(), MissingSymbol> {
        self.symbol(name).map(drop)
    }

    pub(crate) fn open() -> Result<Self, LoadError> {
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

/// The handle that `dlopen` returned. It is never closed, because the table keeps addresses in the library.
#[derive(Debug)]
struct Handle(NonNull<c_void>);

// SAFETY: the handle is only passed to `dlsym`, which any thread may call.
unsafe impl Send for Handle {}
// SAFETY: the handle is only passed to `dlsym`, which several threads may call at once.
unsafe impl Sync for Handle {}

impl Handle {
    fn open(name: &OsStr) -> Result<Self, String> {
        let name = CString::new(name.as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: `name` is a C string. Loading runs the library's constructors. The library is the CUDA driver, or the
        // one that the user put in its place.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Self).ok_or_else(last_error)
    }

    fn symbol(&self, name: &str) -> Option<NonNull<c_void>> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is open, and `name` is a C string.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}

/// Returns the message of the `dlopen` failure that was just reported on this thread.
fn last_error() -> String {
    // SAFETY: `dlerror` has no arguments and may be called at any time.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: `text` is a C string that lives until this thread's next call of the dynamic loader.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// Returns the file that an address was loaded from.
fn file_of(address: NonNull<c_void>) -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is writable, and `dladdr` accepts any address.
    let found = unsafe { libc::dladdr(address.as_ptr(), info.as_mut_ptr()) };
    // SAFETY: a `Dl_info` of zeroes is valid, and `dladdr` leaves it valid.
    let info = unsafe { info.assume_init() };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: `dli_fname` is a C string that lives as long as the library, which is never unloaded.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(file.to_bytes())))
}

/// Calls `cuDriverGetVersion`, which needs no `cuInit`. Returns the version, or the error code of the call.
fn version(get_version: NonNull<c_void>) -> Result<DriverVersion, u32> {
    type GetVersion = unsafe extern "C" fn(*mut c_int) -> u32;
    // SAFETY: the address is that of the driver's `cuDriverGetVersion`, whose type is stable.
    let get_version = unsafe { std::mem::transmute::<NonNull<c_void>, GetVersion>(get_version) };
    let mut raw = 0;
    // SAFETY: `raw` is writable.
    let code = unsafe { get_version(&raw mut raw) };
    if code != 0 {
        return Err(code);
    }
    Ok(DriverVersion::from_raw(raw.unsigned_abs()))
}
