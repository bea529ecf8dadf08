//! Since when there is a feature: it decides whether a filter or the kernel's age is blamed.

use cellwall::{Feature, Version};

/// What was found on each kernel that the project boots.
const KERNELS: &str = include_str!("../../docs/kernels.json");

/// What those kernels do not have though they are young enough.
const ELSEWHERE: [(Feature, &str); 3] = [
    (Feature::StoreBypass, "the emulated CPU does not show it"),
    (Feature::IndirectBranch, "the emulated CPU does not show it"),
    (
        Feature::CoreScheduling,
        "the emulated CPU has one thread a core",
    ),
];

#[test]
fn features_came_when_the_table_says() {
    let (mut release, mut feature) = (None, None);
    let mut compared = 0;
    for line in KERNELS.lines() {
        let Some((key, value)) = line.trim().split_once(": ") else {
            continue;
        };
        let value = value.trim_end_matches(',').trim_matches('"');
        match key {
            "\"release\"" => release = Version::of_release(value),
            "\"name\"" => feature = Feature::named(value),
            "\"state\"" => compared += usize::from(agrees(feature, release, value)),
            _ => {}
        }
    }
    assert!(compared > 200, "{compared}");
}

/// Whether that is an answer of the kernel's, which must be the table's.
fn agrees(feature: Option<Feature>, release: Option<Version>, state: &str) -> bool {
    let (feature, release) = (feature.expect("a feature"), release.expect("a version"));
    let is_absent = state == "no" || state.starts_with("no (");
    let is_elsewhere = ELSEWHERE.iter().any(|(other, _)| *other == feature);
    // By a sysctl, or for want of what it rests on.
    if state.starts_with("forbidden") || is_absent && is_elsewhere {
        return false;
    }
    let is_due = release >= feature.since();
    assert_eq!(
        !is_absent, is_due,
        "{feature:?} on Linux {release}: {state}"
    );
    true
}
