//! Gossip: pairs become their mean.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    parameters::{ACCEPT_FAILURES, Parameters, StrategyError, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "gossip",
    aliases: &["gossippair"],
    summary: "the mean of the own update and one other's: in each epoch the pairs of a round-robin tournament",
    paper: "Boyd et al. 2006, Randomized Gossip Algorithms",
    parameters: &[ACCEPT_FAILURES],
    build,
};

/// Both of a pair become its mean. The pairs of an epoch are those of the round-robin tournament (circle method) among
/// the authors in ascending order, so that nodes that see the same authors choose each other; of an odd number one is
/// left over and keeps its own. The own update is the first, if none says that it is.
struct Gossip;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    Ok(Combined::strategy(Gossip, parameters.common()?))
}

/// The opponent of number `own` of `players` in a round of the tournament, if it has one.
fn opponent(own: usize, players: usize, round: u64) -> Option<usize> {
    // With an odd number of players the last place is empty.
    let last = players + players % 2 - 1;
    let turn = (round % last.max(1) as u64) as usize;
    let opponent = if own == last {
        // The one that would meet itself: 2·i ≡ turn, and `last` is odd.
        turn * last.div_ceil(2) % last
    } else {
        match (turn + last - own) % last {
            itself if itself == own => last,
            other => other,
        }
    };
    (opponent < players && opponent != own).then_some(opponent)
}

impl Combination for Gossip {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let updates = at.source.updates();
        let own = updates.iter().position(|update| update.own).unwrap_or(0);
        let order = at.source.by_author();
        let place = order.iter().position(|&number| number == own).unwrap_or(0);
        let pair = match opponent(place, order.len(), updates[own].epoch) {
            Some(other) => vec![own, order[other]],
            None => vec![own],
        };
        Ok(Plan::mean(at.source, &pair, &vec![1.0; pair.len()], Rounding::Once))
    }
}

#[cfg(test)]
mod tests {
    use super::opponent;
    use std::collections::BTreeSet;

    #[test]
    fn in_a_tournament_everybody_meets_everybody_once_and_is_met_by_whom_it_meets() {
        for players in 1..12usize {
            let rounds = (players + players % 2 - 1) as u64;
            let mut met = BTreeSet::new();
            for round in 5..5 + rounds {
                for own in 0..players {
                    let Some(other) = opponent(own, players, round) else {
                        assert!(players % 2 == 1, "only one of an odd number is left over");
                        continue;
                    };
                    assert_eq!(opponent(other, players, round), Some(own));
                    assert!(met.insert((own, other)), "{own} meets {other} twice");
                }
            }
            assert_eq!(met.len(), players * (players - 1));
        }
    }
}
