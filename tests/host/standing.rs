#![expect(unsafe_code, reason = "closes descriptors that are not its own")]
//! Nothing of the host's standing is inherited: hosts of many kinds, each in a process of its own,
//! and what their workers are.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use cellwall::{Blame, Config, Engine, Errno, Instance, Interrupt, Misuse, Stage, Step, Tier};
use linux_raw::cred::Capability;
use linux_raw::fd::{CloseRangeFlags, close_range};
use linux_raw::process::geteuid;
use linux_raw::scheduling;

use super::identity::has;
use super::own_status;
use crate::harness::{alone, alone_under, call, config, engine, parts, proc, start, status, tier};

const SYS_NICE: Capability = Capability::from_raw(23);
const SYS_RESOURCE: Capability = Capability::from_raw(24);

/// A kind of host: how it is started, and what is looked at in it.
struct Host {
    command: &'static [&'static str],
    /// Only who has this can be such a host; for everybody else, the command is refused.
    takes: Option<Capability>,
    check: fn(),
}

/// Runs what follows it with another score for the OOM killer.
const fn scored(script: &'static str) -> [&'static str; 4] {
    ["sh", "-c", script, "sh"]
}

const SPARED: [&str; 4] = scored("echo -500 > /proc/self/oom_score_adj && exec \"$@\"");
const DISLIKED: [&str; 4] = scored("echo 300 > /proc/self/oom_score_adj && exec \"$@\"");
const NOWHERE: [&str; 4] = scored("d=$(mktemp -d) && cd \"$d\" && rmdir \"$d\" && exec \"$@\"");

const HOSTS: &[Host] = &[
    Host {
        command: &SPARED,
        takes: Some(SYS_RESOURCE),
        check: || assert_eq!(oom_scores(), [-500, 0]),
    },
    Host {
        command: &DISLIKED,
        takes: None,
        check: || {
            let [host, worker] = oom_scores();
            assert_eq!(host, 300);
            assert!(worker >= 300, "{worker}");
        },
    },
    Host {
        command: &["nice", "-n", "7"],
        takes: None,
        check: || assert_eq!(nices(&config()), [7, 7]),
    },
    Host {
        command: &["nice", "-n", "7"],
        takes: None,
        check: || assert_eq!(nices(&config().nice(10)), [7, 10]),
    },
    Host {
        // Who may not have it gets a warning and another value.
        command: &["nice", "-n", "-5"],
        takes: None,
        check: || {
            let host = if has(SYS_NICE) { -5 } else { 0 };
            assert_eq!(nices(&config()), [host, 0]);
        },
    },
    Host {
        command: &["chrt", "-f", "5"],
        takes: Some(SYS_NICE),
        check: || assert_eq!(super::policies(), ["1", "0"].map(String::from)),
    },
    Host {
        command: &["chrt", "-r", "5"],
        takes: Some(SYS_NICE),
        check: || assert_eq!(super::policies(), ["2", "0"].map(String::from)),
    },
    Host {
        command: &["setpriv", "--groups", "4,24,65533"],
        takes: Some(Capability::SETGID),
        check: || {
            assert_eq!(own_status("Groups:"), "4 24 65533");
            assert_eq!(status(&worker(&config()), "Groups"), "");
        },
    },
    Host {
        command: &[
            "setpriv",
            "--inh-caps",
            "+sys_nice",
            "--ambient-caps",
            "+sys_nice",
        ],
        takes: Some(SYS_NICE),
        check: || {
            assert_ne!(own_status("CapAmb:"), "0000000000000000");
            let worker = worker(&config());
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(status(&worker, set), "0000000000000000", "{set}");
            }
        },
    },
    Host {
        command: &[
            "prlimit",
            "--core=unlimited",
            "--nofile=64",
            "--stack=1048576",
        ],
        takes: None,
        check: || {
            let limits = proc(&worker(&config()), "limits");
            for (name, limit) in [("Max core file size", "0"), ("Max open files", "0")] {
                let line = limits.lines().find_map(|line| line.strip_prefix(name));
                let words: Vec<&str> = line.unwrap().split_whitespace().collect();
                assert_eq!(words[..2], [limit, limit], "{name}");
            }
        },
    },
    Host {
        command: &NOWHERE,
        takes: None,
        check: || {
            let own = fs::read_link("/proc/self/cwd").unwrap();
            assert!(own.to_str().unwrap().ends_with(" (deleted)"), "{own:?}");
            let worker = worker(&config());
            if tier() == Tier::Full {
                let its = fs::read_link(format!("/proc/{}/cwd", worker.process_id())).unwrap();
                assert_eq!(its, Path::new("/"));
            }
        },
    },
];

/// Whether such a host can be; where it cannot, what it takes is known to be absent.
fn can_be(host: &Host) -> bool {
    let can = succeeds(host.command);
    if !can {
        let key = match host.takes {
            Some(SYS_NICE) => "cap-sys-nice",
            Some(SYS_RESOURCE) => "cap-sys-resource",
            Some(Capability::SETGID) => "cap-setgid",
            _ => panic!("{:?} was refused", host.command),
        };
        absence::absent(key, format_args!("{:?} was refused", host.command));
    }
    can
}

/// Whether a command that runs what follows it does so.
pub(super) fn succeeds(command: &[&str]) -> bool {
    let (first, rest) = command.split_first().unwrap();
    let run = Command::new(first)
        .args(rest)
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.unwrap_or_else(|error| panic!("{first}: {error}"))
        .success()
}

#[test]
fn hosts_of_many_kinds() {
    const KIND: &str = "CELLWALL_TEST_KIND";
    const TEST: &str = "host::standing::hosts_of_many_kinds";
    if let Ok(kind) = std::env::var(KIND) {
        return (HOSTS[kind.parse::<usize>().unwrap()].check)();
    }
    for (kind, host) in HOSTS.iter().enumerate() {
        if can_be(host) {
            let kind = format!("{KIND}={kind}");
            let command = [&["env", &kind], host.command].concat();
            alone_under(&command, TEST, || unreachable!());
        }
    }
}

/// A worker that has run.
fn worker(config: &Config) -> Instance {
    let engine = Engine::new(config).unwrap();
    let mut worker = start(&engine, |code| code.ret().unwrap());
    call(&mut worker, &[]);
    assert!(matches!(worker.run().unwrap(), Interrupt::Finished(_)));
    worker
}

/// The OOM scores of this process and of a worker.
fn oom_scores() -> [i32; 2] {
    let worker = worker(&config());
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    [own, proc(&worker, "oom_score_adj")].map(|text| text.trim().parse().unwrap())
}

/// The nice values of this process and of a worker.
fn nices(config: &Config) -> [i32; 2] {
    let worker = worker(config);
    let stat = proc(&worker, "stat");
    // Field 19 of proc_pid_stat(5); the name in field 2 may hold spaces.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let its = rest.split(' ').nth(19 - 3).unwrap().parse().unwrap();
    [scheduling::nice().unwrap(), its]
}

/// A nice value that the worker may not have: the error says which step, and what to do.
#[test]
fn a_nice_value_below_the_hosts() {
    let engine = Engine::new(&config().nice(-5)).unwrap();
    let module = parts(&[0xc3]).build(&engine).unwrap();
    // Inside a user namespace of its own it has no such privilege, whoever the host is.
    if tier() == Tier::WithoutNamespaces && has(SYS_NICE) {
        return drop(engine.instantiate(&module).unwrap());
    }
    let refused = engine.instantiate(&module).unwrap_err();
    assert_eq!(refused.stage, Stage::Lockdown(Step::Standing));
    let text = refused.to_string();
    assert!(text.contains("Config::nice"), "{text}");
}

/// The numbers of a list such as `0-2,5`.
fn listed(list: &str) -> Vec<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().unwrap()..=last.parse().unwrap()
    };
    list.split(',').flat_map(range).collect()
}

/// One CPU that this process may use.
pub(super) fn some_cpu() -> [usize; 1] {
    [listed(&own_status("Cpus_allowed_list:"))[0]]
}

#[test]
fn workers_may_be_bound_to_cpus() {
    let all = listed(&own_status("Cpus_allowed_list:"));
    for cpu in &all {
        let worker = worker(&config().cpus(&[*cpu]));
        assert_eq!(listed(&status(&worker, "Cpus_allowed_list")), [*cpu]);
    }
    assert_eq!(
        listed(&status(&worker(&config()), "Cpus_allowed_list")),
        all
    );
    // None of which is there, and none that can be.
    let engine = Engine::new(&config().cpus(&[1023])).unwrap();
    let module = parts(&[0xc3]).build(&engine).unwrap();
    let refused = engine.instantiate(&module).unwrap_err();
    assert_eq!(refused.stage, Stage::Lockdown(Step::Standing));
    let text = refused.to_string();
    assert!(text.contains("Config::cpus"), "{text}");
    let refused = Engine::new(&config().cpus(&[1024])).unwrap_err();
    let Blame::Caller(Misuse::NoSuchCpu { number: 1024, .. }) = refused.blame else {
        panic!("{refused}")
    };
}

/// An embedder's thread that is bound to a CPU binds itself and no worker.
#[test]
fn a_bound_thread_has_workers_on_every_cpu() {
    alone(
        "host::standing::a_bound_thread_has_workers_on_every_cpu",
        || {
            let all = own_status("Cpus_allowed_list:");
            let [cpu] = some_cpu();
            let bound = std::thread::spawn(move || {
                let mut mask = [0; 16];
                mask[cpu / 64] = 1 << (cpu % 64);
                scheduling::set_affinity(&mask).unwrap();
                let list = fs::read_to_string("/proc/thread-self/status").unwrap();
                assert!(
                    list.contains(&format!("Cpus_allowed_list:\t{cpu}\n")),
                    "{list}"
                );
                let engine = engine();
                let worker = start(&engine, |code| code.ret().unwrap());
                (engine, status(&worker, "Cpus_allowed_list"))
            });
            let (engine, seen) = bound.join().unwrap();
            assert_eq!(seen, all);
            let worker = start(&engine, |code| code.ret().unwrap());
            assert_eq!(status(&worker, "Cpus_allowed_list"), all);
        },
    );
}

/// The numbers that workers' descriptors get on the way may be the host's lowest.
#[test]
fn a_host_without_a_standard_input() {
    alone("host::standing::a_host_without_a_standard_input", || {
        // SAFETY: nobody in this process of its own reads from the standard input.
        unsafe { close_range(0, 0, CloseRangeFlags::empty()) }.unwrap();
        assert!(fs::read_link("/proc/self/fd/0").is_err());
        let workers = [worker(&config()), worker(&config())];
        assert!(workers.iter().all(Instance::is_alive));
    });
}

/// Root of a namespace of its own, in which nobody else exists: its workers are who it is outside,
/// unless that is the first root.
#[test]
fn root_of_a_namespace_of_its_own() {
    const TEST: &str = "host::standing::root_of_a_namespace_of_its_own";
    const UNSHARED: &[&str] = &["unshare", "--map-root-user"];
    // A container that forbids namespaces forbids this one too.
    let forbidden = tier() == Tier::WithoutNamespaces;
    if forbidden && !succeeds(UNSHARED) {
        return absence::absent("user-namespace", "`unshare` was refused");
    }
    alone_under(UNSHARED, TEST, || {
        assert_eq!(geteuid(), 0);
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        let outside = map.split_whitespace().nth(1).unwrap();
        if outside == "0" {
            let refused = Engine::new(&config()).unwrap_err();
            return assert_eq!(refused.blame, Blame::Caller(Misuse::RootWorker));
        }
        let worker = worker(&config());
        // Seen from here, that is this namespace's one user.
        assert_eq!(status(&worker, "Uid"), "0\t0\t0\t0");
        // Nobody else exists here.
        let engine = Engine::new(&config().uid(65534)).unwrap();
        let module = parts(&[0xc3]).build(&engine).unwrap();
        let refused = engine.instantiate(&module).unwrap_err();
        let step = if forbidden { Step::User } else { Step::IdMaps };
        assert_eq!(refused.stage, Stage::Lockdown(step), "{refused}");
        let Blame::Kernel { errno, .. } = refused.blame else {
            panic!("{refused}")
        };
        assert!([Errno::EPERM, Errno::EINVAL].contains(&errno), "{refused}");
    });
}
