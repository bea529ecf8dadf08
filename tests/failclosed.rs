//! Whatever the kernel refuses during a start, no guest runs behind less than the whole wall.
//!
//! A supervisor makes each call of a start fail, one start after the other, and the error must say
//! what failed. A layer that only some kernels have may be missing, if the kernel says so each time
//! that it is asked. Nothing may be left behind. A start that fails gives no instance, and only an
//! instance enters a guest.

mod expected;
mod host_calls;
mod nursery;
mod possessions;
mod supervisor;
mod trial;

use cellwall::{Blame, Config, Engine, Layer, Stage, Step, Tier};
use linux_raw::nr::{self, Nr};
use linux_raw::scheduling;

use self::expected::{BY_CLONE, LAYERS, is_such};
use self::supervisor::{Call, under_supervision};
use self::trial::{Kind, Trial};
use crate::harness::{alone, alone_under, tier};

/// What a configuration makes a process do.
#[derive(Clone, Copy)]
struct Asked {
    kind: Kind,
    tier: Tier,
    core_scheduling: bool,
    no_timestamp_counter: bool,
}

/// Whether a call of the process's takes this step.
fn is_taken(step: Step, asked: Asked, trial: &Trial<'_>) -> bool {
    use Step::{CloseAll, CoreScheduling, Limits, Paging, Regions, Seal};
    let is_another_user = trial.is_another_user;
    let has_namespaces = asked.tier == Tier::Full;
    let is_asked_for = match step {
        // A root host writes the maps itself: see the test of the host's calls.
        Step::IdMaps => has_namespaces && !is_another_user,
        Step::Ambient => has_namespaces && is_another_user,
        Step::Bounding | Step::Root => has_namespaces,
        Paging => trial.can_change_maps,
        // A nursery whose kernel cannot tells its workers.
        Seal => asked.kind != Kind::Nursed || trial.can_seal(),
        CoreScheduling => asked.core_scheduling,
        Step::TimestampCounter => asked.no_timestamp_counter,
        _ => true,
    };
    let is_each_worker_s = [CoreScheduling, Regions, Paging, CloseAll];
    let is_its_own = match asked.kind {
        Kind::Alone => ![Step::Stack, Step::Ready].contains(&step),
        Kind::Nursery => !is_each_worker_s.contains(&step),
        Kind::Nursed => {
            let both = [Step::SharedPages, Limits, Seal, Step::Seccomp];
            is_each_worker_s.contains(&step) || both.contains(&step)
        }
    };
    is_asked_for && is_its_own
}

/// Every step that is taken was named by an error, and every layer's own call was one of those that
/// failed.
fn covers_everything(trial: &Trial<'_>, asked: Asked) {
    let is_taken = |step| is_taken(step, asked, trial);
    for step in Step::ALL {
        let was_seen = trial.found.iter().any(|(found, _)| found == step);
        assert_eq!(was_seen, is_taken(*step), "{step:?} was seen failing");
    }
    for layer in Layer::ALL {
        let mut rows = LAYERS.iter().filter(|(of, ..)| of == layer).peekable();
        let has_a_row = rows.peek().is_some() || BY_CLONE.contains(layer);
        assert!(has_a_row, "{layer:?} has no line in LAYERS");
        for (_, step, number, first) in rows.filter(|(_, step, ..)| is_taken(*step)) {
            let mut found = trial.found.iter();
            let was_seen = found.any(|(of, call)| of == step && is_such(*call, *number, first));
            assert!(was_seen, "{layer:?} was not seen failing");
        }
    }
}

fn fails_closed(config: &Config, asked: Asked) {
    under_supervision(|supervised| {
        let mut trial = Trial::new(supervised, config, asked.kind);
        trial.fail_every(|_| true);
        covers_everything(&trial, asked);
        trial.lie_about_every_call();
        let (starts, tier) = (trial.starts, asked.tier.name());
        eprintln!("{starts} starts, {:?}, of tier {tier}", asked.kind);
    });
}

/// Workers that have to change their nice value and their CPUs: who has them already makes no call
/// that could fail.
fn other_standing(config: Config) -> Config {
    let nice = scheduling::nice().expect("a nice value");
    let mut cpus = [0; 16];
    scheduling::get_affinity(None, &mut cpus).expect("CPUs");
    let words = cpus.iter().zip((0..).step_by(64));
    let mut first = words.filter(|(word, _)| **word != 0);
    let (word, base) = first.next().expect("a CPU");
    let cpu = base + word.trailing_zeros() as usize;
    config.nice(nice + 1).cpus(&[cpu])
}

/// Whether a worker gets a core-scheduling cookie here. If not, the start fails at that step.
fn has_core_scheduling(config: &Config) -> bool {
    let engine = Engine::new(config).expect("an engine");
    let Err(error) = engine.layers() else {
        return true;
    };
    assert_eq!(
        error.stage,
        Stage::Lockdown(Step::CoreScheduling),
        "{error}"
    );
    assert!(matches!(error.blame, Blame::Kernel { call: "prctl", .. }));
    assert!(error.to_string().contains(Layer::CoreScheduling.name()));
    false
}

fn every_step(test: &str, kind: Kind) {
    if tier() != Tier::Full {
        return absence::absent("full-tier", "its namespaces are forbidden here");
    }
    alone(test, || {
        let config = Config::default().timestamp_counter(false);
        let config = config.direct(kind == Kind::Alone);
        let core_scheduling = has_core_scheduling(&config.clone().core_scheduling(true));
        let asked = Asked {
            kind,
            tier: Tier::Full,
            core_scheduling,
            no_timestamp_counter: true,
        };
        fails_closed(&config.core_scheduling(core_scheduling), asked);
    });
}

#[test]
fn every_step_fails_closed() {
    every_step("failclosed::every_step_fails_closed", Kind::Alone);
}

#[test]
fn every_step_of_a_nursery_fails_closed() {
    let test = "failclosed::every_step_of_a_nursery_fails_closed";
    every_step(test, Kind::Nursery);
}

#[test]
fn every_step_of_a_nursed_worker_fails_closed() {
    let test = "failclosed::every_step_of_a_nursed_worker_fails_closed";
    every_step(test, Kind::Nursed);
}

#[test]
fn every_step_without_namespaces_fails_closed() {
    let test = "failclosed::every_step_without_namespaces_fails_closed";
    alone(test, || {
        let tier = Tier::WithoutNamespaces;
        let asked = Asked {
            kind: Kind::Alone,
            tier,
            core_scheduling: false,
            no_timestamp_counter: false,
        };
        let config = Config::default().tier(tier).report_forbidden_calls(true);
        fails_closed(&config, asked);
    });
}

/// What a worker calls only if the host's standing is not what it is to have.
const CHANGES: [Nr; 5] = [
    nr::SCHED_SETSCHEDULER,
    nr::SETPRIORITY,
    nr::SCHED_SETAFFINITY,
    nr::OPENAT,
    nr::WRITE,
];

#[test]
fn a_change_of_standing_fails_closed() {
    let test = "failclosed::a_change_of_standing_fails_closed";
    alone_under(&["chrt", "--batch", "0"], test, || {
        // Takes a privilege; without it one call less is made.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-1");
        let config = other_standing(Config::default().tier(tier()).direct(true));
        under_supervision(|supervised| {
            let mut trial = Trial::new(supervised, &config, Kind::Alone);
            trial.fail_every(|call| CHANGES.contains(&call.nr));
            let is_change = |(step, call): &(Step, Call)| {
                *step == Step::Standing && call.nr == nr::SCHED_SETSCHEDULER
            };
            assert!(trial.found.iter().any(is_change), "the policy stays");
        });
    });
}

#[test]
fn every_call_of_the_host_s_fails_cleanly() {
    alone("failclosed::every_call_of_the_host_s_fails_cleanly", || {
        under_supervision(|supervised| {
            let mut tiers = vec![tier(), Tier::WithoutNamespaces];
            tiers.dedup();
            for tier in tiers {
                let config = Config::default().tier(tier).direct(true);
                host_calls::fail_an_engine_s(supervised, &config);
                let starts = host_calls::fail_every_one(supervised, &config);
                eprintln!("{starts} starts of tier {}", tier.name());
            }
        });
    });
}

#[test]
fn every_request_to_a_nursery_fails_cleanly() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", "its namespaces are forbidden here");
    }
    alone(
        "failclosed::every_request_to_a_nursery_fails_cleanly",
        || {
            under_supervision(|supervised| {
                let starts = nursery::fail_every_request(supervised, &Config::default());
                eprintln!("{starts} starts");
            });
        },
    );
}
