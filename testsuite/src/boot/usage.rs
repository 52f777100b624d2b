//! What a process costs its host, as /proc tells.

use std::fs;
use std::time::Duration;

/// Ticks a second in /proc/PID/stat: USER_HZ, which is 100 on every Linux that has x86.
const TICKS: u64 = 100;

/// What a running process has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Time on processors, of all its threads.
    pub cpu: Duration,
    /// The most memory it had resident, in KiB.
    pub peak: u64,
    /// How much of its largest mapping, the guest's RAM, is resident, in KiB.
    pub ram: u64,
}

impl Usage {
    /// Of the process `id`; `None` once it has ended.
    pub(super) fn of(id: u32) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).ok();
        Some(Self {
            cpu: cpu(&read("stat")?)?,
            peak: field(&read("status")?, "VmHWM")?,
            ram: largest(&read("smaps")?)?,
        })
    }

    /// Memory beside what the guest has touched, in KiB.
    pub fn own(&self) -> u64 {
        self.peak.saturating_sub(self.ram)
    }
}

/// User and system time. The name in parentheses may hold anything, so fields count behind it.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 1000 / TICKS))
}

/// A line `NAME: 123 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(rest)
    })?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// What is resident of the largest mapping that can be written.
fn largest(smaps: &str) -> Option<u64> {
    let mut best = (0, 0);
    let mut writable = false;
    let mut size = 0;
    for line in smaps.lines() {
        if let Some((range, rest)) = line.split_once(' ')
            && range.contains('-')
        {
            writable = rest.starts_with("rw");
        } else if line.starts_with("Size:") {
            size = field(line, "Size")?;
        } else if line.starts_with("Rss:") && writable && size > best.0 {
            best = (size, field(line, "Rss")?);
        }
    }
    (best.0 > 0).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn stat_with_a_strange_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 2 0 55 1000 10";
        assert_eq!(super::cpu(stat), Some(Duration::from_millis(1750)));
    }

    #[test]
    fn the_largest_mapping_that_can_be_written() {
        let smaps = "1000-9000 r--p 00000000 00:00 0 \nSize:  900 kB\nRss:  800 kB\n\
                     a000-b000 rw-p 00000000 00:00 0 \nSize:  500 kB\nRss:  40 kB\n\
                     c000-d000 rw-p 00000000 00:00 0  [heap]\nSize:  50 kB\nRss:  50 kB\n";
        assert_eq!(super::largest(smaps), Some(40));
    }
}
