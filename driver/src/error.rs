//! [`DriverError`]: a driver call that failed.
#![forbid(unsafe_code)]

pub(crate) mod code;

use crate::location::DeviceId;
use code::CudaErrorCode;

/// A call that the driver, or the simulator in its place, did not carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// A driver call returned an error code.
    #[error("{call} on {device} failed: {code}")]
    Call {
        /// The driver's name for the call.
        call: &'static str,
        /// The device it was made for.
        device: DeviceId,
        /// The code, as the driver returned it.
        code: CudaErrorCode,
    },
    /// PTX that the driver's compiler rejected.
    #[error("{device} cannot run this PTX: {code}: {log}")]
    Compile {
        /// The device it was compiled for.
        device: DeviceId,
        /// The code, as the driver returned it.
        code: CudaErrorCode,
        /// What the compiler said.
        log: String,
    },
    /// The installed driver is too old for a call.
    #[error("the installed driver ({driver_version}) has no {symbol}")]
    MissingSymbol {
        /// The symbol that it lacks.
        symbol: &'static str,
        /// The CUDA version that the driver reports.
        driver_version: String,
    },
    /// There is no usable driver on this machine.
    #[error("no CUDA driver: {reason}")]
    NoDriver {
        /// What was tried and what came of it.
        reason: String,
        /// The code, if a driver answered with one.
        code: Option<CudaErrorCode>,
    },
    /// No device has this number.
    #[error("there is no device {ordinal}: the driver lists {count}")]
    NoSuchDevice {
        /// The number that was asked for.
        ordinal: u32,
        /// How many devices there are.
        count: u32,
    },
    /// The device cannot do this.
    #[error("{device} does not support {what}")]
    NotSupported {
        /// What was asked for.
        what: &'static str,
        /// The device that cannot.
        device: DeviceId,
    },
    /// Work on the simulated device did something that a real one would not survive.
    #[error("{device}: {message}")]
    Simulation {
        /// The simulated device.
        device: DeviceId,
        /// What happened, and where.
        message: String,
    },
}

impl DriverError {
    /// The driver's code, where there is one.
    pub fn code(&self) -> Option<CudaErrorCode> {
        match self {
            Self::NoDriver { code, .. } => *code,
            Self::Call { code, .. } | Self::Compile { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The device that it is about, where it is about one.
    pub fn device(&self) -> Option<DeviceId> {
        match self {
            Self::Call { device, .. }
            | Self::Compile { device, .. }
            | Self::NotSupported { device, .. }
            | Self::Simulation { device, .. } => Some(*device),
            Self::MissingSymbol { .. } | Self::NoDriver { .. } | Self::NoSuchDevice { .. } => None,
        }
    }

    /// What the driver would say if host memory ran out.
    pub fn host_out_of_memory(device: DeviceId) -> Self {
        Self::Call { call: "malloc", device, code: CudaErrorCode::OUT_OF_MEMORY }
    }

    /// Whether it is the driver's way of saying that memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        self.code() == Some(CudaErrorCode::OUT_OF_MEMORY)
    }
}
