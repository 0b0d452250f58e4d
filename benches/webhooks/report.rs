//! Figures and how they are printed, each with the machine's load at the time.

/// The value below which `percent` of the sorted ones are.
pub fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let place = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(0)
}

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

/// Times from commit to arrival, in microseconds.
pub struct Times(Vec<u64>);

impl Times {
    pub fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub fn p99_ms(&self) -> f64 {
        percentile(&self.0, 99.0) as f64 / 1_000.0
    }

    pub fn max_ms(&self) -> f64 {
        self.0.last().copied().unwrap_or(0) as f64 / 1_000.0
    }

    pub fn line(&self) -> String {
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| percentile(&self.0, percent) as f64 / 1_000.0);
        format!(
            "p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}, slowest {:.2} ms ({} webhooks, load {})",
            self.max_ms(),
            self.0.len(),
            load()
        )
    }
}

/// A number out of `/proc/PID/status`, such as `VmRSS`, in MiB.
pub fn memory_mib(process: u32, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap_or_default();
    let kib: f64 = line.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    kib / 1_024.0
}
