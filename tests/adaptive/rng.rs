//! A small generator of pseudo-random numbers (splitmix64), and the distributions of the workloads.

#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(0x5851_F42D_4C95_7F2D))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, both left out.
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Exponential, of mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Lognormal, of mean 1.
    pub(crate) fn lognormal(&mut self, sigma: f64) -> f64 {
        let normal =
            (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos();
        (sigma * normal - sigma * sigma / 2.0).exp()
    }

    /// Pareto, of mean 1, cut off at 200.
    pub(crate) fn pareto(&mut self, alpha: f64) -> f64 {
        ((alpha - 1.0) / alpha * self.uniform().powf(-1.0 / alpha)).min(200.0)
    }
}
