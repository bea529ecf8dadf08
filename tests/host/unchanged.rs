//! Nothing that the kernel knows of the embedder's process changes: not by an engine, nor by
//! workers, nor by their ends. The child between clone and exec shares the host's memory, and what
//! belongs to that (dumpable, memory-deny-write-execute, oom score) would change the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use cellwall::{Config, Engine, Interrupt};
use iced_x86::code_asm::rax;
use linux_raw::{prctl, process, scheduling};

use crate::harness::{alone, assemble, call, config, eventually, parts};

/// Lines of /proc/PID/status that change by themselves: sizes, counters, how many threads; and the
/// signals on their way, of which a worker that ends sends one.
const VOLATILE: &[&str] = &[
    "ShdPnd",
    "State",
    "Threads",
    "Vm",
    "Rss",
    "Hugetlb",
    "SigQ",
    "FDSize",
    "voluntary",
    "nonvoluntary",
];
/// Files of /proc/self that say what the process is, whole. Some kernels lack some.
const FILES: &[&str] = &[
    "oom_score_adj",
    "limits",
    "comm",
    "cgroup",
    "mountinfo",
    "personality",
    "timerslack_ns",
    "coredump_filter",
    "uid_map",
    "gid_map",
    "setgroups",
    "sessionid",
    "loginuid",
    "autogroup",
    "timens_offsets",
];
/// Fields of proc_pid_stat(5), by number: process group, session, terminal, foreground group,
/// priority, nice, exit signal, real-time priority, policy.
const STAT: &[usize] = &[5, 6, 7, 8, 18, 19, 38, 40, 41];

type Facts = BTreeMap<String, String>;

fn stat(path: &Path) -> String {
    let stat = fs::read_to_string(path).unwrap();
    // The name in field 2 may hold spaces.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    let chosen = STAT.iter().map(|number| fields[number - 3]);
    chosen.collect::<Vec<_>>().join(" ")
}

/// What a thread is: its status, with masks and capabilities, and its priorities.
fn thread(path: &Path, facts: &mut Facts) {
    let name = path.display();
    for line in fs::read_to_string(path.join("status")).unwrap().lines() {
        let (key, value) = line.split_once(':').unwrap();
        if !VOLATILE.iter().any(|prefix| key.starts_with(prefix)) {
            facts.insert(format!("{name} {key}"), value.trim().into());
        }
    }
    facts.insert(format!("{name} stat"), stat(&path.join("stat")));
}

/// All that the kernel says of this process and of the threads that it had at first.
fn look(threads: &[String]) -> Facts {
    let mut facts = Facts::new();
    let own = Path::new("/proc/self");
    thread(own, &mut facts);
    for number in threads {
        thread(&own.join("task").join(number), &mut facts);
    }
    for file in FILES {
        let text = fs::read_to_string(own.join(file));
        facts.insert(
            (*file).into(),
            format!("{:?}", text.map_err(|error| error.kind())),
        );
    }
    for link in ["cwd", "root", "exe"] {
        facts.insert(
            link.into(),
            format!("{:?}", fs::read_link(own.join(link)).unwrap()),
        );
    }
    for entry in fs::read_dir("/proc/self/ns").unwrap() {
        let path = entry.unwrap().path();
        facts.insert(
            path.display().to_string(),
            format!("{:?}", fs::read_link(&path).unwrap()),
        );
    }
    let mut cpus = [0; 16];
    let affinity = scheduling::get_affinity(None, &mut cpus);
    // An error counts too: it must be the same one.
    let calls = [
        ("dumpable", format!("{:?}", prctl::get_dumpable())),
        ("mdwe", format!("{:?}", prctl::get_mdwe())),
        ("no_new_privs", format!("{:?}", prctl::get_no_new_privs())),
        ("securebits", format!("{:?}", prctl::get_securebits())),
        ("tsc", format!("{:?}", prctl::get_timestamp_counter())),
        ("core", format!("{:?}", prctl::core_scheduling_cookie())),
        ("policy", format!("{:?}", scheduling::policy())),
        ("nice", format!("{:?}", scheduling::nice())),
        ("affinity", format!("{affinity:?} {cpus:x?}")),
        (
            "user",
            format!("{} {}", process::geteuid(), process::getegid()),
        ),
    ];
    facts.extend(calls.map(|(name, value)| (name.into(), value)));
    facts
}

/// What differs, so that a failure says it.
fn difference(before: &Facts, after: &Facts) -> Vec<String> {
    let changed = before
        .iter()
        .filter(|(key, value)| after.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| format!("{key}: {value:?} -> {:?}", after.get(key)));
    let new = after.keys().filter(|key| !before.contains_key(*key));
    changed.chain(new.cloned()).collect()
}

/// Looks before, between and after, and while workers start.
fn run_workers(config: &Config, starts: bool) {
    let threads: Vec<String> = fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // The test program's first thread blocks signals while it starts the one that runs this.
    eventually(Duration::from_secs(5), "the first thread waits", || {
        super::own_status("State:").starts_with('S')
    });
    let before = look(&threads);
    assert!(before.len() > 60, "{before:?}");
    let unchanged = |when: &str| {
        let changed = difference(&before, &look(&threads));
        assert!(changed.is_empty(), "{when}: {changed:#?}");
    };
    let engine = Engine::new(config).unwrap();
    unchanged("an engine");
    let code = assemble(|code| {
        code.mov(rax, 1i64).unwrap();
        code.ret().unwrap();
    });
    let module = parts(&code).build(&engine).unwrap();
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            for _ in 0..20 {
                assert_eq!(engine.instantiate(&module).is_ok(), starts);
            }
        });
        while !starter.is_finished() {
            unchanged("during starts");
        }
    });
    if starts {
        let mut instance = engine.instantiate(&module).unwrap();
        call(&mut instance, &[]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(1));
        unchanged("a run");
        drop(instance);
    }
    drop(engine);
    unchanged("the end");
}

#[test]
fn nothing_of_the_process_changes() {
    alone("host::unchanged::nothing_of_the_process_changes", || {
        run_workers(&config(), true);
        let all = config()
            .nice(3)
            .cpus(&super::standing::some_cpu())
            .timestamp_counter(false)
            .report_forbidden_calls(true);
        run_workers(&all, true);
    });
}

/// Root's workers become somebody else, by a way of their own; for an ordinary user, that fails.
#[test]
fn nothing_changes_where_workers_become_another_user() {
    alone(
        "host::unchanged::nothing_changes_where_workers_become_another_user",
        || {
            let config = config().uid(12345).gid(12346);
            run_workers(&config, super::identity::may_change_user());
        },
    );
}
