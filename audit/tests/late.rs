//! A machine on which no worker starts in time: the audit says so and does not end.

use std::time::Duration;

use audit::inside::{Settings, run_group};
use audit::{Row, Verdict};
use cellwall::Config;

/// How often a start may be over before the first look at the clock.
const TRIES: u32 = 100;

#[test]
fn late_starts_are_rows() {
    let config = Config::default()
        .tier(absence::tier())
        .start_timeout(Duration::ZERO);
    let settings = Settings {
        config: config.clone(),
        threads: 1,
    };
    is_said_of_late(|| run_group("x32", &settings).expect("rows"));
    is_said_of_late(|| audit::outside::run(&config).expect("rows"));
}

/// Sooner or later one row says that the start was late. A start in time gives nothing away.
fn is_said_of_late(mut run: impl FnMut() -> Vec<Row>) {
    for _ in 0..TRIES {
        let rows = run();
        if let [row] = &*rows
            && row.verdict == Verdict::Unverified
        {
            return;
        }
        let is_no_finding = |row: &Row| row.verdict.is_good() || row.verdict == Verdict::Unverified;
        assert!(rows.iter().all(is_no_finding), "{rows:#?}");
    }
    panic!("{TRIES} starts were in time");
}
