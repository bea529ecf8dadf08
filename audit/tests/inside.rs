//! The escape test: everything that a guest tries, in real workers.

use std::time::Instant;

use audit::Verdict;
use audit::inside::{Settings, groups, run_group};
use cellwall::{Config, Tier};

/// Runs groups: every row must be good.
fn holds(config: Config, groups: &[&str]) {
    let settings = Settings { config, threads: 2 };
    let mut bad = Vec::new();
    for group in groups {
        let start = Instant::now();
        let rows = run_group(group, &settings).unwrap_or_else(|error| panic!("{group}: {error}"));
        println!("{group}: {} rows, {:?}", rows.len(), start.elapsed());
        assert!(rows.len() > 1, "{group} tried nothing");
        bad.extend(rows.into_iter().filter(|row| !row.verdict.is_good()));
    }
    if let Some(why) = absence::hidden_workers() {
        absence::absent("workers-in-proc", why);
        // Nobody is told there how much memory a worker has.
        bad.retain(|row| row.group != "resources" || row.verdict != Verdict::Unverified);
    }
    assert!(bad.is_empty(), "{:#?}: {bad:#?}", settings.config);
}

// One test: two at a time would take each other's workers and descriptors for changes of the host.
#[test]
fn nothing_gets_through() {
    let config = Config::default().tier(absence::tier());
    holds(config.clone(), groups());
    let weaker = Config::default().tier(Tier::WithoutNamespaces);
    holds(weaker, &["escapes", "resources"]);
    let reporting = config.report_forbidden_calls(true).timestamp_counter(false);
    holds(
        reporting,
        &["syscall", "escapes", "instructions", "other modes"],
    );
}
