//! Figures and how they are printed, each with the machine's load at the time.

/// The middle one, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// Runnable tasks, averaged over the last minute.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// Durations, in microseconds.
pub struct Times(Vec<u64>);

impl Times {
    pub fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub fn line(&self) -> String {
        let at = |percent: f64| {
            let place = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
            self.0.get(place.saturating_sub(1)).copied().unwrap_or(0) as f64 / 1_000.0
        };
        let [p50, p99, slowest] = [50.0, 99.0, 100.0].map(at);
        format!("p50 {p50:.2}, p99 {p99:.2}, slowest {slowest:.2} ms ({} of them, load {})", self.0.len(), load())
    }
}
