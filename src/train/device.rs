//! Where training runs: on the processor or on a GPU, chosen at run time.

use crate::settings::named;
use std::{fmt, str::FromStr};

/// What trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor, with burn's flex backend.
    #[default]
    Cpu,
    /// The first NVIDIA GPU. Needs the cargo feature `cuda`.
    Cuda,
}

impl Device {
    /// Checks that it can be used, without panicking if it can't. Does nothing for the processor; loads the CUDA driver
    /// for the GPU.
    pub fn check(self) -> Result<(), DeviceError> {
        match self {
            Self::Cpu => Ok(()),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => Err(DeviceError::NotBuilt),
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda::check(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// A name that no device has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no device {name:?}; the devices are cpu and cuda")]
pub struct ParseDeviceError {
    /// The name.
    pub name: String,
}

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(ParseDeviceError { name: name.to_owned() }),
        }
    }
}

named!(Device);

/// Why a device can't be used. Each is one line that says what is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without the feature `cuda`.
    #[error("this program was built without CUDA: build it with --features cuda, or train on the cpu")]
    NotBuilt,
    /// There is no libcuda.
    #[error("there is no usable GPU: the NVIDIA driver (libcuda) is not installed; train on the cpu")]
    NoDriver,
    /// The driver is there, but says no.
    #[error("there is no usable GPU: the NVIDIA driver says {what}; train on the cpu")]
    Driver {
        /// CUDA's name of the error.
        what: String,
    },
    /// The driver works and finds nothing.
    #[error("there is no usable GPU: the NVIDIA driver finds none; train on the cpu")]
    NoGpu,
    /// There is no libnvrtc, with which kernels are compiled.
    #[error("the GPU can't be used: CUDA's run-time compiler (libnvrtc) is not installed; train on the cpu")]
    NoCompiler,
    /// CUDA's headers are missing, which every kernel includes.
    #[error("the GPU can't be used: CUDA's headers are not at {path}; set CUDA_PATH, or train on the cpu")]
    NoHeaders {
        /// Where they were looked for.
        path: String,
    },
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::DeviceError;
    use cudarc::driver::result as driver;
    use std::path::{Path, PathBuf};

    /// burn finds the same things missing only on a thread of its own, which panics.
    pub(super) fn check() -> Result<(), DeviceError> {
        // SAFETY: Both only try to load NVIDIA's libraries, whose initialisers have no requirements.
        let (libcuda, libnvrtc) =
            unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
        if !libcuda {
            return Err(DeviceError::NoDriver);
        }
        let driver_error = |error: driver::DriverError| DeviceError::Driver { what: format!("{:?}", error.0) };
        driver::init().map_err(driver_error)?;
        if driver::device::get_count().map_err(driver_error)? < 1 {
            return Err(DeviceError::NoGpu);
        }
        if !libnvrtc {
            return Err(DeviceError::NoCompiler);
        }
        let include = headers();
        if !include.join("cuda_runtime.h").exists() {
            return Err(DeviceError::NoHeaders { path: include.display().to_string() });
        }
        Ok(())
    }

    /// Where cubecl, burn's CUDA compiler, will look.
    fn headers() -> PathBuf {
        let installed = ["/usr/local/cuda", "/opt/cuda"].into_iter().map(Path::new).find(|path| path.exists());
        let root = std::env::var_os("CUDA_PATH").map(PathBuf::from).or_else(|| installed.map(Path::to_owned));
        root.unwrap_or_else(|| PathBuf::from("/usr")).join("include")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for device in [Device::Cpu, Device::Cuda] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert!("tpu".parse::<Device>().is_err());
    }

    #[test]
    fn the_processor_is_always_there_and_a_missing_gpu_is_one_line() {
        assert_eq!(Device::Cpu.check(), Ok(()));
        if let Err(error) = Device::Cuda.check() {
            let line = error.to_string();
            assert!(!line.contains('\n') && line.contains("cpu"), "{line}");
        }
    }
}
