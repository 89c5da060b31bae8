//! All that is left to chance, from a seed.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Random numbers, the same in every run of a seed.
#[derive(Clone)]
pub struct Chance {
    numbers: ChaCha8Rng,
}

impl Chance {
    /// Those of a seed, for one purpose: what one purpose draws changes nothing for the others.
    pub fn new(seed: u64, purpose: u64) -> Chance {
        let mut numbers = ChaCha8Rng::seed_from_u64(seed);
        numbers.set_stream(purpose);
        Chance { numbers }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.numbers.next_u64()
    }

    /// Fills with any bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.numbers.fill_bytes(bytes);
    }

    /// 32 of them.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }

    /// Below `bound`, which counts as 1 if it is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    /// Within both.
    pub fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// In so many of 100 times.
    pub fn percent(&mut self, times: u32) -> bool {
        self.number() % 100 < u64::from(times)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// One of some that are given here.
    pub fn one_of<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[self.below(N)]
    }

    /// A time, up to this long.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let micros = most.as_micros() as u64;
        Duration::from_micros(self.number() % (micros + 1))
    }

    /// A time within both.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        least + self.up_to(most.saturating_sub(least))
    }

    /// Mostly short, sometimes long: around a mean.
    pub fn about(&mut self, mean: Duration) -> Duration {
        let halvings = self.below(4) as u32;
        self.up_to(mean * 4) / (1 << halvings)
    }
}
