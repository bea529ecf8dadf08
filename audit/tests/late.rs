//! A machine on which no worker starts in time: the audit says so and does not end.

use std::time::Duration;

use audit::Verdict;
use audit::inside::{Settings, run_group};
use cellwall::Config;

#[test]
fn late_starts_are_rows() {
    let config = Config::default()
        .tier(absence::tier())
        .start_timeout(Duration::from_nanos(1));
    let settings = Settings {
        config: config.clone(),
        threads: 1,
    };
    let inside = run_group("x32", &settings).expect("rows");
    let outside = audit::outside::run(&config).expect("rows");
    for rows in [inside, outside] {
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!(rows[0].verdict, Verdict::Unverified, "{rows:#?}");
    }
}
