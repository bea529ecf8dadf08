//! The machine, without which no figure means anything, and its memory.

use std::fs;
use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use cellwall::{Config, Engine};

use crate::measure::Failure;
use crate::polkavm::PAGING_SYSCTL;

/// The machine in one line.
#[must_use]
pub fn machine() -> String {
    let cpus = available_parallelism().map_or(0, usize::from);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    format!(
        "{cpus} x {model}, {} GiB, Linux {}, vm.unprivileged_userfaultfd={}, load {}",
        (kib("MemTotal:").unwrap_or(0) + (1 << 19)) >> 20,
        read("/proc/sys/kernel/osrelease").trim(),
        read(PAGING_SYSCTL).trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("unknown"),
    )
}

/// What is measured: the configuration, and the layers that are in force with it.
///
/// # Errors
///
/// Where a worker cannot start.
pub fn configuration() -> Result<String, Failure> {
    let config = Config::default();
    let layers = Engine::new(&config)?.layers()?;
    let layers: Vec<String> = layers
        .iter()
        .map(|(layer, standing)| format!("- {}: {standing}", layer.name()))
        .collect();
    Ok(format!(
        "`{config:?}`, in most figures with the workers on one CPU (`Config::cpus`); \
         layers:\n\n{}",
        layers.join("\n")
    ))
}

/// How much of the machine's memory each of so many things takes, in KiB: the mean of how far
/// available memory falls when they are made and rises when they are dropped, which a slow drift
/// leaves alone.
///
/// # Errors
///
/// Those of `make`; where fall and rise are too different, since something else is at work.
pub(crate) fn memory_of_each<T>(
    things: u32,
    make: impl FnOnce() -> Result<T, Failure>,
) -> Result<f64, Failure> {
    let each = |more: u64, less: u64| -> Result<f64, Failure> {
        let change = i64::try_from(more)? - i64::try_from(less)?;
        Ok(f64::from(i32::try_from(change)?) / f64::from(things))
    };
    let before = settled()?;
    let made = make()?;
    let meanwhile = settled()?;
    drop(made);
    let (fall, rise) = (each(before, meanwhile)?, each(settled()?, meanwhile)?);
    let mean = f64::midpoint(fall, rise);
    if (fall - rise).abs() <= mean / 2.0 {
        Ok(mean)
    } else {
        let change = format!("memory fell by {fall:.0} and rose by {rise:.0} KiB for each");
        Err(format!("{change}: something else is at work").into())
    }
}

/// Available memory in KiB, once it has hardly grown for half a second, or after 20 s.
fn settled() -> Result<u64, Failure> {
    const TICK: Duration = Duration::from_millis(100);
    let (mut most, mut calm) = (available()?, 0);
    for _ in 0..200 {
        sleep(TICK);
        let now = available()?;
        if now > most + 512 {
            (most, calm) = (now, 0);
        } else {
            calm += 1;
        }
        if calm == 5 {
            return Ok(now);
        }
    }
    Ok(most)
}

/// Available memory in KiB, and what each CPU keeps of free pages for its next allocations: the
/// kernel counts that as neither free nor available, and of what has just been freed hundreds of
/// megabytes can stay there.
fn available() -> Result<u64, Failure> {
    let zones = fs::read_to_string("/proc/zoneinfo")?;
    // Within "pagesets", where alone it is so.
    let counts = zones.lines().map(str::trim_start);
    let counts = counts.filter_map(|line| line.strip_prefix("count:"));
    let kept = counts.map(|count| count.trim().parse::<u64>());
    let pages = kept.sum::<Result<u64, _>>()?;
    Ok(kib("MemAvailable:")? + pages * 4)
}

/// A value of `/proc/meminfo`.
fn kib(key: &str) -> Result<u64, Failure> {
    value("/proc/meminfo", key)
}

/// The number after a key at the start of a line, in a file of `/proc`.
pub(crate) fn value(path: &str, key: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(path)?;
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
    let value = values.next().ok_or_else(|| format!("no {key} in {path}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}
