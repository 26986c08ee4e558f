//! Krum's scores: how close each update is to the others.

use super::{
    FoldError, Reference,
    combination::At,
    parameters::{Common, ParameterInfo, Parameters, StrategyError},
    reduce::squared_distances,
};

pub(super) const NUM_MALICIOUS_CLIENTS: ParameterInfo = ParameterInfo {
    name: "num_malicious_clients",
    default: "0",
    meaning: "f, how many updates may be an attacker's, a whole number from 0",
};

pub(super) const NUM_MALICIOUS_NODES: ParameterInfo =
    ParameterInfo { name: "num_malicious_nodes", default: "0", meaning: "the same, as Flower's message API calls it" };

/// f, by one of its two names.
pub(super) fn malicious(parameters: &Parameters<'_>) -> Result<usize, StrategyError> {
    let name = parameters.either(NUM_MALICIOUS_CLIENTS.name, NUM_MALICIOUS_NODES.name)?;
    Ok(usize::try_from(parameters.whole(name, 0, 0)?).unwrap_or(usize::MAX))
}

/// Errors if the rule can't withstand f attackers among so few updates. References don't check, and with f = 0 nothing
/// is promised.
pub(super) fn enough(
    at: &At<'_>,
    strategy: &'static str,
    malicious: usize,
    factor: usize,
    always: bool,
) -> Result<(), FoldError> {
    let (updates, needed) = (at.source.updates().len(), malicious.saturating_mul(factor).saturating_add(3));
    if updates >= needed || !always && (malicious == 0 || at.common.reference.is_some()) {
        return Ok(());
    }
    Err(FoldError::TooFew { strategy, needed, what: format!("f = {malicious}"), updates })
}

/// ‖w_i − w_j‖² of the round's updates. Flower 1.6 and the older API of 1.41 round them to f32.
pub(super) fn distances(at: &At<'_>) -> Result<Vec<Vec<f64>>, FoldError> {
    let mut distances = squared_distances(at.source.layout(), &at.source.inputs())?;
    if matches!(at.common.reference, Some(Reference::Flwr16 | Reference::Flwr141)) {
        for distance in distances.iter_mut().flatten() {
            let norm = distance.sqrt() as f32;
            *distance = f64::from(norm * norm);
        }
    }
    Ok(distances)
}

/// Σ of the c = max(1, n − f − 2) smallest distances to others among them, of each of these updates, with its number.
/// They are in the order of their authors, with a reference in that of the round.
fn scores(at: &At<'_>, distances: &[Vec<f64>], among: &[usize], malicious: usize) -> Vec<(f64, usize)> {
    let closest = among.len().saturating_sub(malicious).saturating_sub(2).max(1);
    let order: Vec<usize> = match at.common.reference {
        Some(_) => among.to_vec(),
        None => at.source.by_author().into_iter().filter(|number| among.contains(number)).collect(),
    };
    let score = |number: usize| {
        let mut near: Vec<f64> =
            among.iter().filter(|&&other| other != number).map(|&other| distances[number][other]).collect();
        near.sort_by(f64::total_cmp);
        near.iter().take(closest).sum()
    };
    order.into_iter().map(|number| (score(number), number)).collect()
}

/// The number of the update with the lowest score; the first of equal ones.
pub(super) fn best(at: &At<'_>, distances: &[Vec<f64>], among: &[usize], malicious: usize) -> usize {
    let lowest = scores(at, distances, among, malicious).into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    lowest.map_or(among[0], |(_, number)| number)
}

/// These updates, by number, in ascending order of their scores. Of equal ones the first is first; with a reference
/// their order is that of numpy's `argsort`.
pub(super) fn by_score(at: &At<'_>, distances: &[Vec<f64>], among: &[usize], malicious: usize) -> Vec<usize> {
    let mut scored = scores(at, distances, among, malicious);
    if at.common.reference.is_some() && scored.len() <= 8 {
        sort_as_numpy(&mut scored);
    } else {
        scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    scored.into_iter().map(|(_, number)| number).collect()
}

/// Sorts up to eight by the network of numpy's `argsort` on a processor with AVX-512 (numpy 1.26 and 2.4): it isn't
/// stable, and scores are often equal, for example those of two updates that are nearest to each other. With more than
/// eight, its order of equal ones depends on the whole array and isn't reproduced.
fn sort_as_numpy(scored: &mut Vec<(f64, usize)>) {
    const NEIGHBOURS: [(usize, usize); 4] = [(0, 1), (2, 3), (4, 5), (6, 7)];
    const NETWORK: [[(usize, usize); 4]; 6] = [
        NEIGHBOURS,
        [(0, 3), (1, 2), (4, 7), (5, 6)],
        NEIGHBOURS,
        [(0, 7), (1, 6), (2, 5), (3, 4)],
        [(0, 2), (1, 3), (4, 6), (5, 7)],
        NEIGHBOURS,
    ];
    let count = scored.len();
    scored.resize(8, (f64::INFINITY, usize::MAX));
    for (low, high) in NETWORK.into_iter().flatten() {
        if scored[high].0 < scored[low].0 {
            scored.swap(low, high);
        }
    }
    scored.retain(|&(_, number)| number != usize::MAX);
    debug_assert_eq!(scored.len(), count);
}

/// The rounding of the mean of selected updates.
pub(super) fn rounding(common: &Common) -> super::mean::Rounding {
    common.rounding_of_aggregate()
}
