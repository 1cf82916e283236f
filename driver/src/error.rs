//! [`DriverError`]: the error of a driver call.
#![forbid(unsafe_code)]

pub(crate) mod code;

use crate::location::DeviceId;
use code::CudaErrorCode;

/// The error of a call to a driver or a simulator.
///
/// # Examples
///
/// ```
/// use cumem_driver::{CudaErrorCode, DeviceId, DriverError};
///
/// let code = CudaErrorCode::OUT_OF_MEMORY;
/// let error = DriverError::Call { call: "cuMemAlloc", device: DeviceId::cuda(0), code };
/// assert_eq!(error.to_string(), "cuMemAlloc on cuda:0 failed: CUDA_ERROR_OUT_OF_MEMORY (2)");
/// assert!(error.is_out_of_memory());
/// assert_eq!((error.code(), error.device()), (Some(code), Some(DeviceId::cuda(0))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// A driver call returned an error code.
    #[error("{call} on {device} failed: {code}")]
    Call {
        /// The driver's name for the call.
        call: &'static str,
        /// The device that the call was made for.
        device: DeviceId,
        /// The code, as the driver returned it.
        code: CudaErrorCode,
    },
    /// The driver's compiler rejected PTX code.
    #[error("{device} cannot run this PTX: {code}: {log}")]
    Compile {
        /// The device that the code was compiled for.
        device: DeviceId,
        /// The code, as the driver returned it.
        code: CudaErrorCode,
        /// The log of the compiler.
        log: String,
    },
    /// The installed driver is too old for a call.
    #[error("the installed driver ({driver_version}) has no {symbol}")]
    MissingSymbol {
        /// The symbol that the driver lacks.
        symbol: &'static str,
        /// The CUDA version that the driver reports.
        driver_version: String,
    },
    /// This machine has no usable driver, or this program was built without the feature `cuda`. Simulated devices
    /// need no driver: `Device::simulated` of `cumem` creates one, `Device::first_or_simulated` does if there is no
    /// GPU.
    #[error("no CUDA driver: {reason}; without a GPU, use `Device::simulated` or `Device::first_or_simulated`")]
    NoDriver {
        /// The step that failed, and why.
        reason: String,
        /// The code, if a driver returned one.
        code: Option<CudaErrorCode>,
    },
    /// No device has this number.
    #[error("there is no device {ordinal}: the driver lists {count}")]
    NoSuchDevice {
        /// The requested number.
        ordinal: u32,
        /// The number of devices.
        count: u32,
    },
    /// The device lacks a feature.
    #[error("{device} does not support {what}")]
    NotSupported {
        /// The feature.
        what: &'static str,
        /// The device that lacks the feature.
        device: DeviceId,
    },
    /// A driver call succeeded with a result that cannot be right, for example a granularity of zero bytes. The driver is
    /// damaged, or is no CUDA driver.
    #[error("{call} on {device} returned {answer}, which no CUDA driver returns")]
    InvalidAnswer {
        /// The driver's name for the call.
        call: &'static str,
        /// The device that the call was made for.
        device: DeviceId,
        /// The result.
        answer: String,
    },
    /// This process is a forked child of the process that loaded the CUDA driver, which cannot be used there.
    #[error(
        "{device} cannot be used in this process, which was forked after the CUDA driver was loaded; open devices in the \
         child only, or start the child with `exec`"
    )]
    Forked {
        /// The device.
        device: DeviceId,
    },
    /// Work on a simulated device did something that would crash or corrupt a process that uses a GPU.
    #[error("{device}: {message}")]
    Simulation {
        /// The simulated device.
        device: DeviceId,
        /// The description, with names and addresses.
        message: String,
    },
}

impl DriverError {
    /// Returns the driver's code, or `None` if no driver returned one.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{CudaErrorCode, DeviceId, DriverError};
    ///
    /// let error = DriverError::host_out_of_memory(DeviceId::cuda(0));
    /// assert_eq!(error.code(), Some(CudaErrorCode::OUT_OF_MEMORY));
    /// let error = DriverError::NoSuchDevice { ordinal: 3, count: 1 };
    /// assert_eq!(error.code(), None); // the library checked the ordinal, and made no driver call
    /// ```
    pub fn code(&self) -> Option<CudaErrorCode> {
        match self {
            Self::NoDriver { code, .. } => *code,
            Self::Call { code, .. } | Self::Compile { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Returns the device that the error is about, or `None` if it is about none.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{DeviceId, DriverError};
    ///
    /// let error = DriverError::NotSupported { what: "managed memory", device: DeviceId::cuda(1) };
    /// assert_eq!(error.device(), Some(DeviceId::cuda(1)));
    /// ```
    pub fn device(&self) -> Option<DeviceId> {
        match self {
            Self::Call { device, .. }
            | Self::Compile { device, .. }
            | Self::NotSupported { device, .. }
            | Self::InvalidAnswer { device, .. }
            | Self::Forked { device }
            | Self::Simulation { device, .. } => Some(*device),
            Self::MissingSymbol { .. } | Self::NoDriver { .. } | Self::NoSuchDevice { .. } => None,
        }
    }

    /// Returns the error for a failed allocation of ordinary host memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::{DeviceId, DriverError};
    /// assert!(DriverError::host_out_of_memory(DeviceId::cuda(0)).is_out_of_memory());
    /// ```
    pub fn host_out_of_memory(device: DeviceId) -> Self {
        Self::Call { call: "malloc", device, code: CudaErrorCode::OUT_OF_MEMORY }
    }

    /// Reports whether the driver returned `CUDA_ERROR_OUT_OF_MEMORY`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{CudaErrorCode, DeviceId, DriverError};
    ///
    /// let failed = |code| DriverError::Call { call: "cuMemAlloc", device: DeviceId::cuda(0), code };
    /// assert!(failed(CudaErrorCode::OUT_OF_MEMORY).is_out_of_memory());
    /// assert!(!failed(CudaErrorCode::INVALID_VALUE).is_out_of_memory());
    /// ```
    pub fn is_out_of_memory(&self) -> bool {
        self.code() == Some(CudaErrorCode::OUT_OF_MEMORY)
    }
}
