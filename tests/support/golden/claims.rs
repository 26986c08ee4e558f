//! How close a fold must come to each golden file.

use super::{Array, files};
use std::path::PathBuf;

/// How a file's results compare with the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Claim {
    /// Bit for bit.
    Exact,
    /// 1e-6, relative.
    Close,
    /// By a test of its own.
    Elsewhere,
    /// No strategy of ours.
    LeftOut,
}

/// Every file that there may be. One that is not known here must not go by untested.
pub fn claim(folder: &str, file: &str) -> Option<Claim> {
    let name = file.strip_suffix(".json")?;
    let (kind, api) = match name.strip_prefix("new_") {
        Some(kind) if folder == "flwr-1.41" => (kind, "message"),
        Some(_) => return None,
        None => (name, "legacy"),
    };
    let kind = kind.split('_').next()?;
    Some(match (folder, kind, api) {
        ("flwr-1.6" | "flwr-1.41", "edge", _) if name == "edge_cases" => Claim::Elsewhere,
        ("flwr-1.41", "quirks", _) | ("flower-async", "staleness", _) => Claim::Elsewhere,
        ("flwr-serverless", "async", _) => Claim::Elsewhere,
        ("flwr-1.6" | "flwr-1.41", "FedXgbBagging" | "DPServerFixed" | "DPServerAdaptive", _) => Claim::LeftOut,
        ("flwr-1.41", "dp", _) if name == "dp_scalars" => Claim::LeftOut,
        ("flwr-1.41", "FedAdam", _) => Claim::Close,
        ("flwr-1.6" | "flwr-1.41", "FedTrimmedAvg" | "QFedAvg", _) => Claim::Close,
        ("flwr-1.6" | "flwr-1.41", "FedAvg" | "FedAvgM" | "FedProx" | "FaultTolerantFedAvg", _) => Claim::Exact,
        ("flwr-1.6" | "flwr-1.41", "FedAdagrad" | "FedAdam" | "FedYogi" | "FedMedian" | "Krum" | "Bulyan", _) => {
            Claim::Exact
        }
        ("flwr-1.41", "MultiKrum", "message") => Claim::Exact,
        ("flower-async", "Unweighted" | "FedAsync" | "AsyncFedED", _) => Claim::Exact,
        _ => return None,
    })
}

/// All JSON files of a sub-folder with what is claimed of them.
pub fn claimed(folder: &str) -> Vec<(PathBuf, Claim)> {
    let with_claim = |path: PathBuf| {
        let claim = claim(folder, path.file_name().unwrap().to_str().unwrap());
        let claim = claim.unwrap_or_else(|| panic!("{} is replayed by no test", path.display()));
        (path, claim)
    };
    files(folder, &[""]).into_iter().map(with_claim).collect()
}

/// The files of a sub-folder whose rounds a strategy of ours repeats.
pub fn replayed(folder: &str) -> impl Iterator<Item = (PathBuf, Claim)> {
    claimed(folder).into_iter().filter(|(_, claim)| matches!(claim, Claim::Exact | Claim::Close))
}

impl Claim {
    /// Whether a result is as near to the reference's as is claimed.
    pub fn holds(self, got: &[f32], expected: &[Array]) -> bool {
        match self {
            Self::Exact => exactly(got, expected),
            Self::Close => closely(got, expected),
            Self::Elsewhere | Self::LeftOut => false,
        }
    }
}

pub fn exactly(got: &[f32], expected: &[Array]) -> bool {
    let expected = expected.iter().flat_map(|array| &array.data).map(|&value| (value as f32).to_bits());
    expected.eq(got.iter().map(|number| number.to_bits()))
}

/// 1e-6, relative; the reference's outputs are f64.
fn closely(got: &[f32], expected: &[Array]) -> bool {
    let expected: Vec<f64> = expected.iter().flat_map(|array| &array.data).copied().collect();
    let near = |(&got, &expected): (&f32, &f64)| (f64::from(got) - expected).abs() <= 1e-6 * expected.abs();
    got.len() == expected.len() && got.iter().zip(&expected).all(near)
}
