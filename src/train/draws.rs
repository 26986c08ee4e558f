//! Pseudo-random numbers that are the same on every machine and in every version.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Pseudo-random numbers that are the same on every machine and in every version of this program: ChaCha8, and draws
/// written out here rather than taken from a library that may change them.
#[derive(Debug, Clone)]
pub struct Draws {
    generator: ChaCha8Rng,
}

impl Draws {
    /// The numbers for this purpose, seed and instance (a pass, a tensor's name). Different ones share nothing: two
    /// purposes can use one seed.
    pub fn new(purpose: &'static str, seed: u64, instance: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 random draws v1");
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        hasher.update(&seed.to_le_bytes());
        hasher.update(instance);
        Self { generator: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()) }
    }

    /// A number in `0..bound`, each equally likely; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Lemire's method. The products whose lower half lies under 2^64 mod bound would make some results likelier.
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.generator.next_u64()) * u128::from(bound);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number in `0.0..1.0`, a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Shuffles the items; every order is equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These numbers must never change: partitions and initial weights of running federations follow from them.
    #[test]
    fn draws_are_the_same_for_ever() {
        let mut draws = Draws::new("test", 7, b"x");
        let below: Vec<u64> = (0..6).map(|_| draws.below(1000)).collect();
        assert_eq!(below, [445, 92, 192, 101, 764, 726]);
        assert_eq!(draws.unit(), 0.577_957_604_218_680_7);
    }

    #[test]
    fn purposes_seeds_and_instances_are_apart() {
        let first = |purpose, seed, instance: &[u8]| Draws::new(purpose, seed, instance).below(u64::MAX);
        let all = [first("a", 0, b""), first("b", 0, b""), first("a", 1, b""), first("a", 0, b"x")];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
    }

    #[test]
    fn below_is_in_range_and_reaches_everything() {
        let mut draws = Draws::new("test", 0, b"");
        let mut seen = [0; 7];
        for _ in 0..7000 {
            seen[draws.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
        assert_eq!((draws.below(0), draws.below(1)), (0, 0));
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Draws::new("test", 0, b"").shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
