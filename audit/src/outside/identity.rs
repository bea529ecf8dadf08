//! Who the worker is and what it may do: users, capabilities, the filter, who may look at it.

use std::os::unix::fs::MetadataExt as _;

use cellwall::{Layer, Tier};
use vmctx::map;

use super::finding::Finding;
use super::proc::{Process, Read, silent};
use super::subject::Subject;

/// No capability, as `status` shows a set.
const NONE: &str = "0000000000000000";

/// What a namespace shows for a user that it does not have (`kernel.overflowuid`).
const NOBODY: &str = "65534";

fn line(subject: &Subject, key: &str, expected: &str) -> Finding {
    let found = subject.process.status(key);
    Finding::equal(format!("status: {key}"), expected.into(), found)
}

pub(super) fn system_calls(subject: &Subject) -> Vec<Finding> {
    // How many filters there are is shown since Linux 5.9; the worker inherits the host's.
    let filters = |process: &Process| -> Read<u32> {
        let text = process.status("Seccomp_filters")?;
        let number = text.parse();
        number.map_err(|_| silent("Seccomp_filters", &text))
    };
    let added =
        filters(&subject.host).and_then(|host| Ok(filters(&subject.process)?.saturating_sub(host)));
    // Number and arguments of the call that it waits in, in hexadecimal but for the number. A
    // worker that just looks at the word is "running".
    let waits = subject.process.text("syscall").map(|text| {
        let words: Vec<&str> = text.split_whitespace().take(5).collect();
        match words[..] {
            [number, word, operation, _, timeout] => {
                format!("{number} {word} {operation} timeout {timeout}")
            }
            _ => text.trim().to_owned(),
        }
    });
    let futex = format!("202 {:#x} 0x0 timeout 0x0", map::STATE_WORD);
    vec![
        // 2 is a filter (proc(5)).
        line(subject, "Seccomp", "2"),
        // A nursery's own, which it inherits, and which would forbid the report.
        Finding::equal(
            "status: Seccomp_filters, besides the host's",
            1 + u32::from(subject.wanted.is_nursed && !subject.wanted.reports_calls),
            added,
        ),
        line(subject, "Threads", "1"),
        Finding::judged(
            "syscall: where the worker waits",
            format!("{futex}, or running"),
            waits,
            |waits| [futex.as_str(), "running"].contains(&waits.as_str()),
        ),
        // The kernel's function; 0 while it runs, and where the kernel keeps such names to itself.
        Finding::judged(
            "wchan: what the worker waits in",
            "futex_..., or 0",
            subject.process.text("wchan"),
            |function| function.starts_with("futex_") || function == "0",
        ),
    ]
}

pub(super) fn user_id(subject: &Subject) -> Vec<Finding> {
    let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
    let wanted = &subject.wanted;
    let mut findings = vec![
        line(subject, "Uid", &four(wanted.uid)),
        line(subject, "Gid", &four(wanted.gid)),
        Finding::equal(
            "status: Uid, as the kernel counts",
            "not 0".into(),
            kernel_user(subject),
        ),
    ];
    // An ordinary user cannot give up its groups.
    if wanted.is_another {
        findings.push(line(subject, "Groups", ""));
    }
    findings
}

/// Whether the worker is the kernel's user 0. The files of /proc/sys belong to that one in every
/// user namespace, and their owner is shown as ours names it (fs/proc/proc_sysctl.c).
fn kernel_user(subject: &Subject) -> Read<String> {
    let uids = subject.process.status("Uid")?;
    let sysctl = Process::named("sys").metadata("kernel/overflowuid")?;
    let root = sysctl.uid().to_string();
    let is_root = uids.split_whitespace().any(|uid| uid == root);
    // A namespace without the kernel's user 0 shows 65534 for it, and nobody is that.
    let is_unmapped =
        root == NOBODY && subject.host.text("uid_map")?.split_whitespace().nth(1) != Some("0");
    Ok(if is_root && !is_unmapped {
        "0"
    } else {
        "not 0"
    }
    .into())
}

pub(super) fn no_new_privileges(subject: &Subject) -> Vec<Finding> {
    vec![line(subject, "NoNewPrivs", "1")]
}

pub(super) fn capabilities(subject: &Subject) -> Vec<Finding> {
    let sets = ["CapEff", "CapPrm", "CapInh", "CapAmb"];
    sets.map(|set| line(subject, set, NONE)).into()
}

pub(super) fn bounding_set(subject: &Subject) -> Vec<Finding> {
    vec![line(subject, "CapBnd", NONE)]
}

/// Who owns the files of a process in `/proc`: its user, or, if it is not dumpable, user 0 of the
/// user namespace that it was executed in (fs/proc/base.c, task_dump_owner).
pub(super) fn dumpable(subject: &Subject) -> Vec<Finding> {
    let owner = subject.process.metadata("maps").map(|file| file.uid());
    let root_of_its_own = match subject.wanted.tier {
        Tier::WithoutNamespaces => Ok(0),
        // The first number inside and the one outside.
        _ => subject.process.text("uid_map").and_then(|map| {
            let mut numbers = map.split_whitespace();
            let outside = match (numbers.next(), numbers.next()) {
                (Some("0"), Some(outside)) => outside.parse().ok(),
                _ => Some(0),
            };
            outside.ok_or_else(|| silent("uid_map", &map))
        }),
    };
    let look = "the owner of its files in /proc";
    match root_of_its_own {
        Err(unread) => vec![Finding::judged::<String>(
            look,
            "readable",
            Err(unread),
            |_| false,
        )],
        Ok(root) if root == subject.wanted.uid => {
            let why = "user 0 of its user namespace is its user, and owns its files either way";
            vec![super::reported(subject, Layer::NotDumpable, why)]
        }
        Ok(root) => vec![Finding::equal(look, root, owner)],
    }
}
