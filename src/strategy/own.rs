//! Building blocks for users' own strategies.

use super::{
    FoldError, Folded, Round,
    combination::{Plan, combine},
    engine,
    mean::{Mean, Rounding, write_to},
    number::decode,
    source::Source,
};
use crate::weights::{DType, Piece};

/// The name used in errors for a strategy they don't know.
const OWN: &str = "this strategy";
/// Coordinates of each update decoded at a time.
const BLOCK: usize = 256;

/// The mean of a round's updates with these weights, one for each update in the round's order: finite, not negative,
/// not all 0. They needn't add up to 1. Sums are in f64, in order of authors, and rounded once. Integer tensors are
/// those of the newest update whose weight is above 0. Reads one piece of at most eight updates at a time.
///
/// Errors if there are no updates, layouts differ, or an update is a difference or can't be read; with
/// [`FoldError::Weights`] if the weights aren't like that.
pub fn weighted_mean(round: &Round<'_>, weights: &[f64]) -> Result<Folded, FoldError> {
    let source = Source::check(round, None, true, OWN)?;
    let wrong = |what: String| FoldError::Weights { strategy: OWN, what };
    if weights.len() != round.updates.len() {
        let (weights, updates) = (weights.len(), round.updates.len());
        return Err(wrong(format!("there are {weights} for {updates} updates; give one for each")));
    }
    let total: f64 = weights.iter().sum();
    if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) || !total.is_finite() || total <= 0.0 {
        let weights = weights.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        return Err(wrong(format!(
            "{weights}; each must be a number from 0, their sum above 0, and all of them finite"
        )));
    }
    let counted: Vec<usize> = (0..weights.len()).filter(|&number| weights[number] > 0.0).collect();
    let weights: Vec<f64> = counted.iter().map(|&number| weights[number]).collect();
    let Plan { terms, rounding, shares, integers, .. } = Plan::mean(&source, &counted, &weights, Rounding::Once);
    let weights = combine(source.layout(), &Mean::new(rounding, terms), integers)?;
    Ok(Folded::new(weights, shares))
}

/// A fold coordinate by coordinate: `fold` gets the values of all updates for one coordinate, in ascending order of
/// their authors, may change their order, and gives the result, which is rounded to the tensor's dtype. Integer tensors
/// are those of the newest update. Reads one piece of all updates at a time; `fold` is called on several threads.
///
/// Errors if there are no updates, layouts differ, or an update is a difference or can't be read.
pub fn fold_coordinates(round: &Round<'_>, fold: impl Fn(&mut [f64]) -> f64 + Sync) -> Result<Folded, FoldError> {
    let source = Source::check(round, None, true, OWN)?;
    let inputs: Vec<_> = source.by_author().into_iter().map(|number| source.input(number)).collect();
    let integers = source.newest(0..inputs.len()).ok_or(FoldError::NoUpdates)?;
    let count = inputs.len();
    let scratch = || (vec![0.0; count * BLOCK], vec![0.0; count], vec![0.0; BLOCK]);
    type Scratch = (Vec<f64>, Vec<f64>, Vec<f64>);
    let work = |scratch: &mut Scratch, dtype: DType, piece: &Piece, weights: &mut [u8], _: &mut [&mut [u8]]| {
        let (rows, values, out) = scratch;
        let read = inputs.iter().map(|input| input.read(piece)).collect::<Result<Vec<_>, _>>()?;
        let size = dtype.size() as usize;
        let elements = weights.len() / size;
        let mut sink = write_to(dtype, weights);
        for start in (0..elements).step_by(BLOCK) {
            let length = BLOCK.min(elements - start);
            for (bytes, row) in read.iter().zip(rows.chunks_exact_mut(BLOCK)) {
                decode(dtype, &bytes[start * size..(start + length) * size], &mut row[..length]);
            }
            for (at, out) in out[..length].iter_mut().enumerate() {
                values.iter_mut().zip(rows.chunks_exact(BLOCK)).for_each(|(value, row)| *value = row[at]);
                *out = fold(values);
            }
            sink(start, &mut out[..length]);
        }
        Ok(())
    };
    let (weights, _) = engine::fold_floats(source.layout(), count, &[], integers, scratch, work)?;
    Ok(Folded::new(weights, vec![1.0 / count as f64; count]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{strategy::Update, weights::Weights};
    use libp2p_identity::PeerId;

    #[test]
    fn wrong_weights_are_told_as_such() {
        let value = Weights::artifact(vec![1u8]).unwrap();
        let updates = [Update::new(PeerId::random(), &value, 1), Update::new(PeerId::random(), &value, 1)];
        let round = Round { number: 1, updates: &updates, failures: 0 };
        for (weights, told) in [
            (&[1.0][..], "there are 1 for 2 updates"),
            (&[1.0, -1.0], "1, -1; each must be"),
            (&[0.0, 0.0], "0, 0; each must be"),
            (&[1.0, f64::NAN], "1, NaN; each must be"),
        ] {
            let error = weighted_mean(&round, weights).unwrap_err();
            assert!(matches!(&error, FoldError::Weights { what, .. } if what.starts_with(told)), "{error}");
        }
    }
}
