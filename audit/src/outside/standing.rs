//! What the worker has of the machine: limits, signals, descriptors, its place among processes.

use super::finding::Finding;
use super::proc::{Process, Read, silent};
use super::subject::Subject;

/// The limits that are 0, as `limits` names them.
const LIMITS: [&str; 11] = [
    "Max core file size",
    "Max file size",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max data size",
    "Max msgqueue size",
    "Max pending signals",
    "Max realtime priority",
    "Max nice priority",
];

/// `SigCgt`: bit n is signal n + 1. ILL (4), TRAP (5), BUS (7), FPE (8), SEGV (11).
const FAULTS: u64 = 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10;
/// USR1 (10), by which the host takes the thread away from a guest.
const EVICTION: u64 = 1 << (vmctx::EVICTION - 1);
/// USR2 (12), by which it stops one.
const INTERRUPTION: u64 = 1 << (vmctx::INTERRUPTION - 1);
/// SYS (31), which a worker handles that reports forbidden calls.
const SYS: u64 = 1 << 30;

/// Numbers of fields in `stat` (proc(5)).
mod field {
    pub(super) const GROUP: usize = 5;
    pub(super) const SESSION: usize = 6;
    pub(super) const TERMINAL: usize = 7;
    pub(super) const NICE: usize = 19;
    pub(super) const REALTIME_PRIORITY: usize = 40;
    pub(super) const POLICY: usize = 41;
}

/// SCHED_OTHER and SCHED_IDLE (sched(7)).
const NORMAL: i64 = 0;
const IDLE: i64 = 5;

pub(super) fn limits(subject: &Subject) -> Vec<Finding> {
    let text = subject.process.text("limits");
    LIMITS
        .iter()
        .map(|name| {
            let found = text.clone().and_then(|text| limit(&text, name));
            Finding::equal(format!("limits: {name}"), "0 0".into(), found)
        })
        .collect()
}

/// The soft and the hard limit.
fn limit(text: &str, name: &str) -> Read<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.ok_or_else(|| silent("limits", &format!("it has no line {name}")))?;
    let values: Vec<&str> = line.split_whitespace().take(2).collect();
    Ok(values.join(" "))
}

pub(super) fn descriptors(subject: &Subject) -> Vec<Finding> {
    let open = subject.process.names("fd").map(|names| names.join(" "));
    vec![Finding::equal("fd", String::new(), open)]
}

pub(super) fn signals(subject: &Subject) -> Vec<Finding> {
    let handled = if subject.wanted.reports_calls {
        FAULTS | EVICTION | INTERRUPTION | SYS
    } else {
        FAULTS | EVICTION | INTERRUPTION
    };
    let set = |key: &str, expected: u64| {
        let found = subject.process.status(key);
        Finding::equal(format!("status: {key}"), format!("{expected:016x}"), found)
    };
    let mut findings = vec![
        set("SigBlk", 0),
        set("SigIgn", 0),
        set("SigPnd", 0),
        set("ShdPnd", 0),
        set("SigCgt", handled),
    ];
    // Only kernels with CONFIG_CHECKPOINT_RESTORE have the file; an exec deletes POSIX timers
    // anyway (timer_create(2)).
    match subject.process.text("timers") {
        Err(unread) if unread.kind == std::io::ErrorKind::NotFound => {}
        timers => findings.push(Finding::equal("timers", String::new(), timers)),
    }
    findings
}

pub(super) fn standing(subject: &Subject) -> Vec<Finding> {
    let process = &subject.process;
    // A nursery has made a session for itself and its workers, anybody else for itself.
    let own = i64::from(subject.process_id());
    let parent = || subject.process.status("PPid").ok()?.parse().ok();
    let leader = if subject.wanted.is_nursed {
        parent().unwrap_or(0)
    } else {
        own
    };
    let number = |look: &str, place: usize, expected: i64| {
        Finding::equal(format!("stat: {look}"), expected, process.stat(place))
    };
    vec![
        Finding::equal(
            "status: Name",
            "cellwall-worker".into(),
            process.status("Name"),
        ),
        number("session", field::SESSION, leader),
        number("process group", field::GROUP, leader),
        number("terminal", field::TERMINAL, 0),
        number("real-time priority", field::REALTIME_PRIORITY, 0),
        policy(subject),
        nice(subject),
        subject.cpus(),
        oom(subject),
        label(subject),
    ]
}

/// The security modules' label, where one of them gives any: an exec of ours changes none.
fn label(subject: &Subject) -> Finding {
    let of = |process: &Process| match process.text("attr/current") {
        Ok(label) => Ok(label.trim_end_matches(['\0', '\n']).to_owned()),
        // No module that has labels (proc_pid_attr_read in fs/proc/base.c).
        Err(unread) if unread.kind == std::io::ErrorKind::InvalidInput => Ok("no label".into()),
        Err(unread) => Err(unread),
    };
    let expected = of(&subject.host).unwrap_or_else(|unread| unread.to_string());
    Finding::equal("attr: current", expected, of(&subject.process))
}

/// Normal; under a host that only runs when nobody else does, so does the worker.
fn policy(subject: &Subject) -> Finding {
    let host = Process::named("thread-self").stat(field::POLICY);
    let allowed = if host == Ok(IDLE) { IDLE } else { NORMAL };
    Finding::equal(
        "stat: scheduling policy",
        allowed,
        subject.process.stat(field::POLICY),
    )
}

fn nice(subject: &Subject) -> Finding {
    let found = subject.process.stat(field::NICE);
    let host = Process::named("thread-self").stat(field::NICE);
    let expected = match subject.wanted.nice {
        Some(nice) => Ok(i64::from(nice)),
        None => host.map(|host| host.max(0)),
    };
    match expected {
        Ok(expected) => Finding::equal("stat: nice value", expected, found),
        Err(unread) => {
            Finding::judged::<String>("the host's nice value", "readable", Err(unread), |_| false)
        }
    }
}

/// Whom the kernel ends first when memory is short: the worker no later than its host.
fn oom(subject: &Subject) -> Finding {
    let score = |process: &Process| -> Read<i32> {
        let text = process.text("oom_score_adj")?;
        let number = text.trim().parse();
        number.map_err(|_| silent("oom_score_adj", &text))
    };
    let look = "oom_score_adj";
    match score(&subject.host) {
        Ok(host) => {
            let least = host.max(0);
            let expected = format!("{least} or more");
            Finding::judged(look, expected, score(&subject.process), |found| {
                *found >= least
            })
        }
        Err(unread) => Finding::judged::<String>(look, "readable", Err(unread), |_| false),
    }
}

#[cfg(test)]
mod tests {
    use super::{EVICTION, FAULTS, INTERRUPTION, LIMITS, limit};

    #[test]
    fn limits_are_found_by_name() {
        let text = std::fs::read_to_string("/proc/self/limits").expect("our limits");
        for name in LIMITS {
            let found = limit(&text, name).expect(name);
            assert_eq!(found.split(' ').count(), 2, "{name}: {found}");
        }
        assert!(limit(&text, "Max nonsense").is_err());
        assert_eq!((FAULTS, EVICTION, INTERRUPTION), (0x4d8, 0x200, 0x800));
    }
}
