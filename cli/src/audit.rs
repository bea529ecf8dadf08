//! The wall, tested on this kernel: the audit's progress, its report and its exit status.

use std::io::{IsTerminal as _, Write as _};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use audit::inside::Settings;
use audit::report::{Report, Style};
use cellwall::{Config, Error};

use crate::args::AuditArgs;
use crate::ending::{Ending, status};
use crate::stdio;

/// Exit status where something got through, or a layer is missing or not known.
const NOT_GOOD: u8 = 1;

/// How many lines of progress are printed where no terminal shows one that changes.
const SPARSE_LINES: usize = 4;

/// Attacks the wall from inside, looks at it from outside, and prints.
pub(crate) fn audit(args: &AuditArgs) -> Ending {
    let config = Config::default().tier(args.tier.into()).direct(args.direct);
    if args.sacrifice {
        return match audit::outside::sacrifice(&config) {
            Ok(()) => Ending::quiet(0),
            Err(error) => Ending::failed(&error, args.tier.into()),
        };
    }
    match rows(args, &config) {
        Ok(rows) => print(&Report::new(args.tier.into(), rows), args),
        Err(error) => Ending::failed(&error, args.tier.into()),
    }
}

fn rows(args: &AuditArgs, config: &Config) -> Result<Vec<audit::Row>, Error> {
    // Outside first: it takes no time, and if no worker starts it says so at once.
    let mut outside = audit::outside::run(config)?;
    outside.push(host_death(args));
    let settings = Settings {
        config: config.clone(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let progress = Progress::new(std::io::stderr().is_terminal());
    let groups: Vec<&str> = if args.groups.is_empty() {
        audit::inside::groups().to_vec()
    } else {
        args.groups.iter().map(String::as_str).collect()
    };
    let mut rows = audit::inside::run(&settings, &groups, &|done, of| progress.show(done, of))?;
    progress.end();
    rows.append(&mut outside);
    Ok(rows)
}

/// This program again, as a host that is killed.
fn host_death(args: &AuditArgs) -> audit::Row {
    // A program without a name does not start, which is a row too.
    let mut host = Command::new(std::env::current_exe().unwrap_or_default());
    host.args(["audit", "--sacrifice", "--tier", args.tier.name()]);
    if args.direct {
        host.arg("--direct");
    }
    audit::outside::host_death(&mut host)
}

/// How many characters a line of the report has: the terminal's, where the shell tells.
fn width() -> usize {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let told = std::io::stdout().is_terminal().then(told).flatten();
    told.unwrap_or(Style::default().width)
}

fn print(report: &Report, args: &AuditArgs) -> Ending {
    let text = if args.json {
        match serde_json::to_string_pretty(report) {
            Ok(text) => text + "\n",
            Err(error) => return Ending::new(status::FAILED, error.to_string()),
        }
    } else {
        report.table(Style {
            width: width(),
            all: args.all,
        })
    };
    let status = if report.is_good() { 0 } else { NOT_GOOD };
    Ending::printed(stdio::print(&text), status)
}

/// How far the attempts are, on the standard error.
struct Progress {
    is_terminal: bool,
    /// The last part, of [`SPARSE_LINES`] or of 100, that was shown.
    shown: AtomicUsize,
    /// Several threads report.
    line: Mutex<()>,
}

impl Progress {
    fn new(is_terminal: bool) -> Self {
        Self {
            is_terminal,
            shown: AtomicUsize::new(0),
            line: Mutex::new(()),
        }
    }

    fn show(&self, done: usize, of: usize) {
        let parts = if self.is_terminal { 100 } else { SPARSE_LINES };
        let part = done.saturating_mul(parts) / of.max(1);
        // Whoever raises it shows it.
        if self.shown.fetch_max(part, Ordering::Relaxed) >= part {
            return;
        }
        let Ok(_line) = self.line.lock() else {
            return;
        };
        if self.is_terminal {
            tell(&format!("\r{done} of {of} groups of attempts"));
        } else {
            tell(&format!("cellwall: {done} of {of} groups of attempts\n"));
        }
    }

    /// Leaves a terminal's line to what follows.
    fn end(&self) {
        if self.is_terminal {
            // Back to its begin, and erase it (console_codes(4), ECMA-48 EL).
            tell("\r\x1b[K");
        }
    }
}

/// Progress that nobody can read is no reason to stop.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
