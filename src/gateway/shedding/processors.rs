//! How much of the machine's processors the process may use: its affinity in whole ones, the quotas of its control groups
//! (cgroup v2) in parts of them. A quota may change while the process runs.

use std::path::{Path, PathBuf};

use crate::clock::Clock;

const OWN_PROCESS: &str = "/proc/self";
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Thousandths of a processor.
const WHOLE: u64 = 1_000;

/// The processors of this process.
pub(super) struct Processors {
    /// Without a quota, in thousandths of a processor.
    most: u64,
    /// Beside a quota, which only these bound from then on.
    affinity: u64,
    /// The process's own group and those around it: the quota of each holds.
    groups: Vec<PathBuf>,
    /// How often the groups had been held back at the last look.
    times_throttled: u64,
}

/// What the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// In thousandths of a processor, at least 1.
    pub(super) permille: u64,
    /// Whether it was held back since the last look because a group had used up its quota.
    pub(super) was_throttled: bool,
}

impl Processors {
    /// Those of the machine, unless time passes only in a test: then one processor and no groups, so that tests can be
    /// repeated.
    pub(super) fn of(clock: &Clock) -> Self {
        if !clock.is_of_machine() {
            return Self { most: WHOLE, affinity: WHOLE, groups: Vec::new(), times_throttled: 0 };
        }
        let available = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Self::read(Path::new(OWN_PROCESS), Path::new(CONTROL_GROUPS), available)
    }

    /// As the files below `process` and `control_groups` say; `available` is how many whole ones the runtime sees.
    fn read(process: &Path, control_groups: &Path, available: u64) -> Self {
        // What the runtime sees is rounded down to whole ones where there is a quota.
        let affinity = affinity_of(process).unwrap_or(available).max(1).saturating_mul(WHOLE);
        let groups = groups_of(process, control_groups);
        let times_throttled = times_throttled(&groups);
        Self { most: available.max(1).saturating_mul(WHOLE), affinity, groups, times_throttled }
    }

    /// What the process may use now. Reads files that are no files but the kernel's answers, so it waits for no disk.
    pub(super) fn look(&mut self) -> Allowance {
        let quota = self.groups.iter().filter_map(|group| quota_of(group)).min();
        let permille = quota.map_or(self.most, |quota| quota.min(self.affinity)).max(1);
        let times_throttled = times_throttled(&self.groups);
        let was_throttled = times_throttled > self.times_throttled;
        self.times_throttled = times_throttled;
        Allowance { permille, was_throttled }
    }
}

/// The process's group and those around it, the innermost first. A process that does not see its own group sees the one
/// that its namespace begins with.
fn groups_of(process: &Path, control_groups: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let own = listed.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().trim_start_matches('/');
    let own = control_groups.join(if own.contains("..") { "" } else { own });
    own.ancestors().take_while(|group| group.starts_with(control_groups)).map(Path::to_path_buf).collect()
}

/// Processors on which the process may run: the bits of a mask in hexadecimal, with commas.
fn affinity_of(process: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"))?;
    let ones: u32 = mask.chars().filter_map(|digit| digit.to_digit(16)).map(u32::count_ones).sum();
    (ones > 0).then_some(u64::from(ones))
}

/// A group's quota in thousandths of a processor: `cpu.max` has microseconds and of how many, or `max` for none.
fn quota_of(group: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut words = text.split_whitespace();
    let (quota_us, period_us) = (words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?);
    quota_us.saturating_mul(WHOLE).checked_div(period_us)
}

/// In how many periods the groups had used up their quotas, since they were made.
fn times_throttled(groups: &[PathBuf]) -> u64 {
    groups.iter().filter_map(|group| times_throttled_in(group)).fold(0, u64::saturating_add)
}

fn times_throttled_in(group: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(group.join("cpu.stat")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a machine of four processors.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(cgroup: &str, cpus_allowed: &str) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.write("proc/cgroup", cgroup);
            machine
                .write("proc/status", &format!("Name:\tx\nCpus_allowed:\t{cpus_allowed}\nCpus_allowed_list:\t0-3\n"));
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn processors(&self, available: u64) -> Processors {
            Processors::read(&self.0.path().join("proc"), &self.0.path().join("groups"), available)
        }

        fn permille(&self, available: u64) -> u64 {
            self.processors(available).look().permille
        }
    }

    #[test]
    fn without_a_quota_it_is_what_the_runtime_sees() {
        for text in ["max 100000\n", "", "nonsense\n", "50000 0\n"] {
            let machine = Machine::new("0::/\n", "f");
            machine.write("groups/cpu.max", text);
            assert_eq!(machine.permille(3), 3_000, "{text:?}");
        }
        let nothing = tempfile::tempdir().unwrap();
        let mut processors = Processors::read(nothing.path(), nothing.path(), 2);
        assert_eq!(processors.look(), Allowance { permille: 2_000, was_throttled: false });
    }

    #[test]
    fn a_quota_counts_in_thousandths_and_no_further_than_the_processors_go() {
        for (cpu_max, cpus_allowed, expected) in [
            ("50000 100000", "f", 500),
            ("1000 1000000", "f", 1),
            ("1 1000000", "f", 1),
            ("150000 100000", "f", 1_500),
            ("150000 100000", "1", 1_000),
            ("250000 100000", "00000000,00000003", 2_000),
            ("900000 100000", "ff,0000000f", 9_000),
        ] {
            let machine = Machine::new("0::/\n", cpus_allowed);
            machine.write("groups/cpu.max", cpu_max);
            // Of less than one processor the runtime sees one.
            assert_eq!(machine.permille(1), expected, "{cpu_max} {cpus_allowed}");
        }
    }

    #[test]
    fn the_least_quota_of_all_groups_around_the_process_holds_and_is_read_anew() {
        let machine = Machine::new("1:cpu:/elsewhere\n0::/a/b\n", "f");
        machine.write("groups/a/b/cpu.max", "max 100000");
        machine.write("groups/a/cpu.max", "70000 100000");
        machine.write("groups/elsewhere/cpu.max", "10000 100000");
        machine.write("cpu.max", "10000 100000");
        let mut processors = machine.processors(4);
        assert_eq!(processors.look().permille, 700);
        machine.write("groups/a/b/cpu.max", "30000 100000");
        assert_eq!(processors.look().permille, 300);
        machine.write("groups/a/cpu.max", "max 100000");
        machine.write("groups/a/b/cpu.max", "max 100000");
        assert_eq!(processors.look().permille, 4_000);
    }

    #[test]
    fn a_process_outside_its_namespace_has_the_group_that_it_sees() {
        let machine = Machine::new("0::/../other\n", "f");
        machine.write("groups/cpu.max", "50000 100000");
        machine.write("other/cpu.max", "10000 100000");
        assert_eq!(machine.permille(4), 500);
    }

    #[test]
    fn being_held_back_is_told_once_for_each_look() {
        let machine = Machine::new("0::/a\n", "f");
        let throttled = |group: &str, times: u32| {
            machine.write(group, &format!("usage_usec 9\nnr_periods 50\nnr_throttled {times}\n"))
        };
        throttled("groups/a/cpu.stat", 7);
        throttled("groups/cpu.stat", 2);
        let mut processors = machine.processors(4);
        assert!(!processors.look().was_throttled, "what was before is past");
        throttled("groups/a/cpu.stat", 8);
        assert!(processors.look().was_throttled);
        assert!(!processors.look().was_throttled);
        throttled("groups/cpu.stat", 3);
        assert!(processors.look().was_throttled);
        assert!(!processors.look().was_throttled);
    }

    #[tokio::test]
    async fn where_time_is_made_up_processors_are_too() {
        let clock = Clock::virtual_from(crate::domain::time::Timestamp::from_unix_s(1_700_000_000));
        assert_eq!(Processors::of(&clock).look(), Allowance { permille: 1_000, was_throttled: false });
        assert!(Processors::of(&Clock::system()).look().permille >= 1);
    }
}
