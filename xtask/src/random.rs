//! Numbers by chance that are the same each time.

/// A linear congruential generator, with the constants of
/// [MMIX](https://en.wikipedia.org/wiki/Linear_congruential_generator#Parameters_in_common_use).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % (bound.max(1) as u64)).unwrap_or_default()
    }

    /// Returns one of several; `None` where there are none.
    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        let place = self.below(from.len());
        from.get(place)
    }
}
