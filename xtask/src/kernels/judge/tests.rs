//! A run that is right passes, and nothing else does.

use serde_json::{Value, json};

use super::super::facts::{Audited, Facts, Refusal, Tested};
use super::super::inside::{Part, QUICK_GROUPS};
use super::super::pins::Pin;
use super::{Expected, LOOKS, THERE, judge};

fn pin(refused: bool) -> Pin {
    let words = if refused { " refused:landlock" } else { "" };
    Pin::parse(&format!(
        "6.1 suite linux-image-6.1.0-9-amd64=6.1.2-1{words}"
    ))
    .unwrap()
}

/// What one user finds where all is well.
fn found(user: u32, refused: bool) -> Facts {
    let groups = QUICK_GROUPS.iter().chain([&LOOKS]);
    let landlock = if refused { "absent" } else { "present" };
    Facts {
        user,
        release: "6.1.0-9-amd64".into(),
        probe: Some(json!({
            "status": i32::from(refused),
            "can_run": !refused,
            "features": [
                {"name": "landlock", "need": "must", "state": landlock, "detail": "ABI 6"},
            ],
        })),
        refusal: refused.then(|| Refusal {
            status: Some(125),
            message: "Landlock is absent".into(),
        }),
        tested: vec![Tested {
            program: "kernel".into(),
            chosen: 2,
            passed: 2,
            failed: Vec::new(),
        }],
        absences: vec!["ABSENT mseal: ENOSYS".into()],
        audit: (!refused).then(|| Audited {
            status: Some(0),
            attempts: groups
                .map(|group| format!("{group} | an attempt"))
                .collect(),
            bad: Vec::new(),
            is_whole: false,
        }),
    }
}

fn told(refused: bool, part: Part, all: &[Facts]) -> Vec<String> {
    let expected = Expected {
        pin: &pin(refused),
        programs: [("kernel", 2)].into(),
        part,
    };
    judge(&expected, all)
}

/// What is told when the second user has found something else.
fn told_of(refused: bool, change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut all = [found(0, refused), found(1000, refused)];
    change(&mut all[1]);
    told(refused, Part::All, &all)
}

#[test]
fn what_is_expected_passes() {
    for refused in [false, true] {
        assert_eq!(told_of(refused, |_| {}), Vec::<String>::new());
    }
}

#[test]
fn a_part_is_judged_by_itself() {
    for refused in [false, true] {
        let all = [0, 1000].map(|user| found(user, refused));
        let of_tests = all.clone().map(|facts| Facts {
            probe: None,
            refusal: None,
            audit: None,
            ..facts
        });
        let of_probe = all.map(|facts| Facts {
            tested: Vec::new(),
            absences: Vec::new(),
            audit: None,
            ..facts
        });
        for (found, part, wrong) in [
            (&of_tests, Part::Tests, false),
            (&of_tests, Part::Probe, true),
            (&of_tests, Part::All, true),
            (&of_probe, Part::Probe, false),
            (&of_probe, Part::Tests, true),
            (&of_probe, Part::All, true),
        ] {
            let told = told(refused, part, found);
            assert_eq!(told.is_empty(), !wrong, "{told:?}");
        }
    }
}

#[test]
fn each_user_looks_once() {
    for users in [
        &[][..],
        &[0],
        &[1000],
        &[0, 0],
        &[1000, 0],
        &[0, 1000, 1000],
    ] {
        let all: Vec<Facts> = users.iter().map(|user| found(*user, false)).collect();
        assert_eq!(told(false, Part::Tests, &all).len(), 1, "{users:?}");
    }
}

/// How facts are changed, and a part of what is told then.
type Case = (fn(&mut Facts), &'static str);

#[test]
fn nothing_else_passes() {
    let cases: [Case; 16] = [
        (|facts| facts.release = "6.1.0-8-amd64".into(), "was booted"),
        (|facts| facts.tested.clear(), "kernel with 2 tests"),
        (|facts| facts.tested[0].chosen = 1, "kernel with 2 tests"),
        (|facts| facts.tested[0].passed = 0, "0 tests passed, of 2"),
        (
            |facts| facts.tested[0].failed.push("a".into()),
            "kernel a failed",
        ),
        (
            |facts| facts.absences.push(format!("ABSENT {}: none", THERE[0])),
            THERE[0],
        ),
        (|facts| facts.probe = None, "no probe"),
        (
            |facts| facts.probe.as_mut().unwrap()["status"] = 1.into(),
            "no sandbox runs",
        ),
        (
            |facts| facts.probe.as_mut().unwrap()["features"][0]["detail"] = "ABI 999".into(),
            "version is 999",
        ),
        (
            |facts| facts.probe.as_mut().unwrap()["features"][0]["detail"] = Value::Null,
            "no version of Landlock",
        ),
        (|facts| facts.audit = None, "no audit"),
        (
            |facts| facts.audit.as_mut().unwrap().status = None,
            "the audit ended with None",
        ),
        (
            |facts| facts.audit.as_mut().unwrap().attempts.clear(),
            "nothing of \"int 0x80\"",
        ),
        (
            |facts| drop(facts.audit.as_mut().unwrap().attempts.pop()),
            "nothing of \"outside\"",
        ),
        (
            |facts| facts.audit.as_mut().unwrap().is_whole = true,
            "kernels-audit.txt: the audit has no",
        ),
        (
            |facts| {
                let audit = facts.audit.as_mut().unwrap();
                audit.status = Some(1);
                audit.bad.push("escapes | an attempt".into());
            },
            "not good",
        ),
    ];
    for (change, part) in cases {
        let told = told_of(false, change);
        assert!(
            told.iter().any(|told| told.contains(part)),
            "{part}: {told:?}"
        );
    }
}

#[test]
fn a_refusal_has_its_reason() {
    let cases: [Case; 4] = [
        (
            |facts| facts.probe.as_mut().unwrap()["features"][0]["state"] = "present".into(),
            "it should lack",
        ),
        (
            |facts| facts.probe.as_mut().unwrap()["can_run"] = true.into(),
            "a sandbox runs: true",
        ),
        (
            |facts| facts.refusal.as_mut().unwrap().message.clear(),
            "does not tell what is missing",
        ),
        (
            |facts| facts.refusal = None,
            "does not tell what is missing",
        ),
    ];
    for (change, part) in cases {
        let told = told_of(true, change);
        assert!(
            told.iter().any(|told| told.contains(part)),
            "{part}: {told:?}"
        );
    }
}

#[test]
fn what_is_there_has_keys() {
    let keys = include_str!("../../../../absence/absences.txt");
    for key in THERE {
        let is_it = |line: &str| line.split_whitespace().next() == Some(key);
        assert!(keys.lines().any(is_it), "{key}");
    }
}
