//! Means of measured times.

/// Mean in seconds that forgets old times; `None` before the first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean(Option<f64>);

impl Mean {
    /// Share of the newest time.
    const NEWEST: f64 = 0.25;

    /// Mean of one time.
    pub(crate) fn of(seconds: f64) -> Mean {
        Mean(Some(seconds))
    }

    /// Adds a time.
    pub(crate) fn add(&mut self, seconds: f64) {
        let mean = self.0.unwrap_or(seconds);
        self.0 = Some(mean + Mean::NEWEST * (seconds - mean));
    }

    /// The mean.
    pub(crate) fn get(self) -> Option<f64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Mean;

    #[test]
    fn new_times_weigh_more_than_old_ones() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        mean.add(2.0);
        assert_eq!(mean.get(), Some(2.0));
        mean.add(4.0);
        assert_eq!(mean.get(), Some(2.5));
        for _ in 0..100 {
            mean.add(8.0);
        }
        assert!(mean.get().is_some_and(|mean| (7.999..=8.0).contains(&mean)));
    }
}
