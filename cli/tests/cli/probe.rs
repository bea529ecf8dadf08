//! `cellwall probe`: the table, the JSON, and what it says where nothing can run.

use std::process::Command;

use cellwall::{Errno, Feature, Kernel, Need, Tier};
use linux_raw::seccomp::bpf::{JUMP_IF_EQUAL, LOAD, RETURN};
use linux_raw::seccomp::{
    self, Cond, InstallFlags, Instruction, Is, Program, Refusal, compile_refusing, install,
    length_refusing,
};
use linux_raw::{nr, prctl};
use serde_json::Value;

use crate::harness::{Outcome, cellwall, run};

#[path = "../../../linux-raw/tests/kernel/container.rs"]
mod container;

use self::container::{NO_CLONE3, NO_NAMESPACES};

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

fn features(report: &Value) -> &[Value] {
    report["features"].as_array().expect("a list")
}

#[test]
fn json_tells_what_the_library_finds() {
    let outcome = run(&["probe", "--json"]);
    let report = json(&outcome.stdout);
    let kernel = Kernel::probe();
    assert_eq!(report["release"], kernel.release());
    assert_eq!(features(&report).len(), Feature::ALL.len());
    for (told, found) in features(&report).iter().zip(kernel.findings()) {
        assert_eq!(told["name"], found.feature.name());
        assert_eq!(told["need"], found.feature.need().name());
        assert_eq!(told["state"] == "present", found.is_present(), "{told}");
        assert_eq!(told["advice"].is_null(), found.is_present(), "{told}");
        assert_eq!(told["without"].is_null(), found.is_present(), "{told}");
    }
    assert_eq!(report["can_run"], Value::Bool(outcome.status == 0));
    // These tests run guests, so they run where guests can run.
    assert_eq!(outcome.status, 0);
    let tiers = report["tiers"].as_array().unwrap();
    assert_eq!(tiers.len(), 2);
    for tier in tiers {
        assert_eq!(tier["can_run"], true, "{tier}");
        assert_eq!(tier["worker_error"], Value::Null);
    }
    assert_eq!(tiers[0]["lacks"], Value::Array(Vec::new()));
    let lacks = tiers[1]["lacks"].as_array().unwrap();
    assert!(lacks.contains(&"pid-namespace".into()), "{lacks:?}");
}

#[test]
fn the_table_has_a_line_for_each_feature() {
    let outcome = run(&["probe"]);
    assert_eq!(outcome.status, 0);
    let table = String::from_utf8(outcome.stdout).unwrap();
    for feature in Feature::ALL {
        let name = format!("{} ", feature.name());
        assert_eq!(
            table.lines().filter(|line| line.starts_with(&name)).count(),
            1,
            "{table}"
        );
    }
    assert!(
        table.contains("\nTier full: a worker started and ran three instructions.\n"),
        "{table}"
    );
    assert!(
        table.contains("\nIts wall lacks user-namespace, mount-namespace,"),
        "{table}"
    );
    assert!(table.contains("\nA sandbox can run here.\n"), "{table}");
}

/// With room for no more than a few descriptors.
fn cramped(args: &str) -> Outcome {
    let command = env!("CARGO_BIN_EXE_cellwall");
    let script = format!("ulimit -n 4; exec {command} {args}");
    Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap()
        .into()
}

#[test]
fn where_nothing_can_run_it_says_why() {
    let outcome = cramped("probe --json");
    let report = json(&outcome.stdout);
    assert_eq!(
        (outcome.status, &report["can_run"]),
        (1, &Value::Bool(false))
    );
    assert!(report["tiers"][0]["worker_error"].is_string(), "{report}");
    let lacking = features(&report)
        .iter()
        .find(|feature| feature["errno"] == "EMFILE");
    let lacking = lacking.expect("a feature that needs a descriptor");
    assert_eq!(lacking["need"], Need::Must.name());
    assert_eq!(lacking["state"], "forbidden");
    assert_eq!(lacking["forbidden_by"], "RLIMIT_NOFILE=4");
    assert_eq!(
        lacking["advice"],
        "Raise the limit RLIMIT_NOFILE, which is 4."
    );

    let outcome = cramped("probe");
    assert_eq!(outcome.status, 1);
    let table = String::from_utf8(outcome.stdout).unwrap();
    assert!(table.contains("\nA sandbox cannot run here.\n"), "{table}");
    assert!(table.contains("\nTier full: no worker runs: "), "{table}");
    assert!(table.contains("Raise the limit RLIMIT_NOFILE"), "{table}");
}

#[test]
fn a_run_that_cannot_start_is_explained() {
    let outcome = cramped("run hello");
    assert_eq!(outcome.status, 125, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("EMFILE"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("Raise the limit RLIMIT_NOFILE"),
        "{}",
        outcome.stderr
    );
}

/// In the tier that does without namespaces, nobody is told to allow them.
#[test]
fn a_run_is_explained_for_its_own_tier() {
    let args = ["run", "--tier", "without-namespaces", "hello"];
    let outcome = behind(NO_SOCKETS_NOR_NAMESPACES.as_slice(), &args);
    assert_eq!(outcome.status, 125, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("socketpair"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("namespace"), "{}", outcome.stderr);
}

/// As a container engine's profile forbids them.
const REFUSALS: &[Refusal] = &[
    NO_CLONE3,
    NO_NAMESPACES,
    refuse(nr::IO_URING_SETUP),
    // Even to give them up.
    refuse(nr::IOPL),
    refuse(nr::IOPERM),
];

const fn refuse(call: nr::Nr) -> Refusal {
    Refusal {
        call,
        when: &[],
        errno: Errno::EPERM,
    }
}

static PROFILE: Program<{ length_refusing(REFUSALS) }> = compile_refusing(REFUSALS);

const BOTH: &[Refusal] = &[NO_NAMESPACES, refuse(nr::SOCKETPAIR)];
static NO_SOCKETS_NOR_NAMESPACES: Program<{ length_refusing(BOTH) }> = compile_refusing(BOTH);

/// A call that an engine makes and no feature is about.
const PLAIN: &[Refusal] = &[refuse(nr::SOCKETPAIR)];
static NO_SOCKETS: Program<{ length_refusing(PLAIN) }> = compile_refusing(PLAIN);

/// Runs the command behind such a filter, which is one of a thread's and of what it starts, and as
/// if in a pod.
fn contained(args: &[&str]) -> Outcome {
    behind(PROFILE.as_slice(), args)
}

fn behind(filter: &[Instruction], args: &[&str]) -> Outcome {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            prctl::set_no_new_privs().unwrap();
            install(filter, InstallFlags::empty()).unwrap();
            let mut command = cellwall(args);
            let output = command.env("KUBERNETES_SERVICE_HOST", "10.0.0.1").output();
            Outcome::from(output.unwrap())
        });
        run.join().unwrap()
    })
}

const fn step(code: u16, skipped: u8, operand: u32) -> Instruction {
    Instruction {
        code,
        if_true: 0,
        if_false: skipped,
        operand,
    }
}

const fn kills(call: nr::Nr) -> [Instruction; 4] {
    [
        step(LOAD, 0, 0), // the call's number
        step(JUMP_IF_EQUAL, 1, call.raw()),
        step(RETURN, 0, seccomp::KILL_PROCESS),
        step(RETURN, 0, seccomp::ALLOW),
    ]
}

/// As systemd's `SystemCallFilter=` has it without `SystemCallErrorNumber=`.
#[test]
fn a_filter_that_kills_does_not_kill_the_probe() {
    let outcome = behind(&kills(nr::IO_URING_SETUP), &["probe", "--json"]);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    let report = json(&outcome.stdout);
    let mut features = features(&report).iter();
    let rings = features
        .find(|feature| feature["name"] == "io_uring")
        .unwrap();
    assert_eq!(rings["forbidden_by"], "a seccomp filter kills for it");
    let error = report["tiers"][0]["worker_error"].as_str().unwrap();
    assert!(error.contains("kills for io_uring"), "{error}");
}

/// A call that an engine makes and no feature is about: systemd's `@debug` has the first. The other
/// one is made by the engine itself, in any tier.
#[test]
fn a_worker_that_is_killed_for_any_call_is_told_of() {
    for (call, tiers) in [(nr::PIDFD_GETFD, 1), (nr::EVENTFD2, 2)] {
        let filter = kills(call);
        let outcome = behind(&filter, &["probe", "--json"]);
        assert_eq!((outcome.status, &*outcome.stderr), (1, ""));
        let report = json(&outcome.stdout);
        for tier in &report["tiers"].as_array().unwrap()[..tiers] {
            let error = tier["worker_error"].as_str().unwrap();
            assert!(error.contains("killed by SIGSYS (31)"), "{error}");
            assert_eq!(tier["can_run"], false);
        }
        let outcome = behind(&filter, &["probe"]);
        assert_eq!((outcome.status, &*outcome.stderr), (1, ""));
        let table = String::from_utf8(outcome.stdout).unwrap();
        for part in [
            "\nseccomp ",
            "\nTier full: no worker runs: its start was killed by SIGSYS",
        ] {
            assert!(table.contains(part), "{table}");
        }
    }
}

#[test]
fn a_refusal_that_only_a_worker_meets_has_advice() {
    let outcome = behind(NO_SOCKETS.as_slice(), &["probe", "--json"]);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    let report = json(&outcome.stdout);
    let error = report["tiers"][0]["worker_error"].as_str().unwrap();
    assert!(
        error.contains("socketpair failed with EPERM (1). A seccomp filter"),
        "{error}"
    );
}

#[test]
fn behind_a_container_s_filter_the_weaker_tier_is_left() {
    let outcome = contained(&["probe", "--json"]);
    assert_eq!(outcome.status, 1);
    let report = json(&outcome.stdout);
    assert_eq!(report["can_run"], false);
    let around = &report["surroundings"];
    assert_eq!(around["no_new_privs"], true);
    assert!(around["seccomp_filters"].as_u64() > Some(0), "{around}");
    assert_eq!(around["manager"], "Kubernetes");
    for (name, errno) in [
        ("clone3", "ENOSYS"),
        ("user-namespace", "EPERM"),
        ("io_uring", "EPERM"),
    ] {
        let mut features = features(&report).iter();
        let feature = features.find(|feature| feature["name"] == name).unwrap();
        // It may be forbidden otherwise too, where these tests run.
        assert_eq!(feature["state"], "forbidden", "{feature}");
        assert_eq!(feature["errno"], errno, "{feature}");
        let advice = feature["advice"].as_str().unwrap();
        assert!(
            advice.contains("securityContext.seccompProfile"),
            "{advice}"
        );
    }
    for tier in report["tiers"].as_array().unwrap() {
        let is_full = tier["name"] == Tier::Full.name();
        assert_eq!(tier["can_run"], !is_full, "{tier}");
    }

    let outcome = contained(&["probe"]);
    assert_eq!(outcome.status, 1);
    let table = String::from_utf8(outcome.stdout).unwrap();
    assert!(table.contains("managed by Kubernetes.\n"), "{table}");
    assert!(
        table.contains("\nA sandbox cannot run here, but"),
        "{table}"
    );
}

/// Machines read this: a key may be added, and then here too; another change is another version.
#[test]
fn the_shape_of_the_json_is_pinned() {
    let report = json(&run(&["probe", "--json"]).stdout);
    assert_eq!(report["version"], 1);
    let keys = |value: &Value| -> Vec<String> {
        // In the order of the alphabet.
        value.as_object().unwrap().keys().cloned().collect()
    };
    let expected = [
        "can_run",
        "features",
        "release",
        "surroundings",
        "tiers",
        "version",
    ];
    assert_eq!(keys(&report), expected);
    let expected = [
        "dumpable",
        "in_chroot",
        "label",
        "limits",
        "manager",
        "no_new_privs",
        "ptrace_scope",
        "seccomp_filters",
        "security_modules",
    ];
    assert_eq!(keys(&report["surroundings"]), expected);
    let expected = ["absent", "can_run", "lacks", "name", "worker_error"];
    for tier in report["tiers"].as_array().unwrap() {
        assert_eq!(keys(tier), expected);
    }
    let expected = [
        "advice",
        "detail",
        "errno",
        "forbidden_by",
        "layers",
        "name",
        "need",
        "needed_for",
        "rests_on",
        "since",
        "state",
        "value",
        "without",
    ];
    for feature in features(&report) {
        assert_eq!(keys(feature), expected);
        let state = feature["state"].as_str().unwrap();
        assert!(["present", "absent", "forbidden"].contains(&state));
        let need = feature["need"].as_str().unwrap();
        assert!(["must", "may", "on request", "not used"].contains(&need));
    }
}
