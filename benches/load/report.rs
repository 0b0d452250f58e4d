//! The figures side by side: medians over the turns, and ratios as medians of the turns' ratios.

use crate::disk::Disk;
use crate::drive::Measured;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Payment,
    Limits,
    Paced,
}

impl Section {
    pub fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Limits => "limits",
            Self::Paced => "paced",
        }
    }
}

/// All turns of everybody.
pub struct Board {
    names: Vec<&'static str>,
    turns: Vec<(Section, usize, Measured)>,
}

impl Board {
    pub fn new(names: Vec<&'static str>) -> Self {
        Self { names, turns: Vec::new() }
    }

    pub fn add(&mut self, section: Section, contestant: usize, measured: Measured) {
        self.turns.push((section, contestant, measured));
    }

    pub fn failures(&self) -> u64 {
        self.turns.iter().map(|(_, _, measured)| measured.wrong).sum()
    }

    pub fn median_rate(&self, section: Section, contestant: usize) -> f64 {
        median(self.values(section, contestant, Measured::per_s))
    }

    fn values(&self, section: Section, contestant: usize, value: impl Fn(&Measured) -> f64) -> Vec<f64> {
        let turns = self.turns.iter().filter(|(of, whose, _)| (*of, *whose) == (section, contestant));
        turns.map(|(_, _, measured)| value(measured)).collect()
    }

    pub fn print(&self, disk: &Disk) {
        for section in [Section::Payment, Section::Limits, Section::Paced] {
            if self.values(section, 0, Measured::per_s).is_empty() {
                continue;
            }
            println!();
            self.print_head(section);
            self.print_row(section, "requests/s", 0, Measured::per_s);
            self.print_row(section, "p50, ms", 2, |measured| measured.latency_ms(50.0));
            self.print_row(section, "p99, ms", 2, |measured| measured.latency_ms(99.0));
            self.print_row(section, "p99.9, ms", 2, |measured| measured.latency_ms(99.9));
            self.print_row(section, "CPU µs/request", 1, Measured::cpu_us_each);
        }
        let sync_ms = disk.percentile_ms(50.0);
        println!("\nfdatasync of 16 KiB appended: median {sync_ms:.2} ms, p99 {:.2} ms", disk.percentile_ms(99.0));
        for section in [Section::Payment, Section::Paced] {
            let latencies = self.values(section, 0, |measured| measured.latency_ms(99.0));
            if !latencies.is_empty() {
                println!("{}: p99 is {:.1} × the median fdatasync", section.name(), median(latencies) / sync_ms);
            }
        }
    }

    fn print_head(&self, section: Section) {
        print!("{:<16}", section.name());
        for name in &self.names {
            print!("{name:>12}");
        }
        for name in &self.names[1..] {
            print!("{:>14}", format!("/ {name}"));
        }
        println!();
    }

    fn print_row(&self, section: Section, what: &str, decimals: usize, value: impl Fn(&Measured) -> f64) {
        let columns: Vec<Vec<f64>> =
            (0..self.names.len()).map(|contestant| self.values(section, contestant, &value)).collect();
        print!("{what:<16}");
        for column in &columns {
            print!("{:>12.decimals$}", median(column.clone()));
        }
        for other in &columns[1..] {
            let ratios = columns[0].iter().zip(other).map(|(own, other)| own / other);
            print!("{:>14.3}", median(ratios.collect()));
        }
        println!();
    }
}

/// Of values that are there.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that `percent` of all are not above; 0 of none. `sorted` is in rising order.
pub fn percentile(sorted: &[u32], percent: f64) -> u32 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}
