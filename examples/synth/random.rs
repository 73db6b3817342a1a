//! Random numbers, the same on every machine.

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Roughly normal number: the sum of four uniform numbers of 16 bits, which is quick.
    pub(crate) fn normal(&mut self, (mean, deviation): (f32, f32)) -> f32 {
        let bits = self.next();
        let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u32 & 0xffff).sum();
        // The sum's mean is 2 * 65535, its deviation 65536 * sqrt(4 / 12).
        mean + (sum as f32 - 131_070.0) * (deviation / 37_837.0)
    }

    /// Number below `n`, smaller ones more often.
    pub(crate) fn skewed(&mut self, n: usize) -> usize {
        let mut draw = || (self.next() >> 32) as f64 / (1u64 << 32) as f64;
        (draw() * draw() * n as f64) as usize
    }
}
