//! Namespaces and the root: links in `ns`, maps of ids, the network, the mounts.

use std::fs;

use super::finding::Finding;
use super::proc::{Process, Read};
use super::subject::Subject;

/// The worker's namespace of this kind must be another one than the host's.
fn apart(subject: &Subject, kind: &str) -> Finding {
    let file = format!("ns/{kind}");
    let both = subject.host.link(&file).and_then(|host| {
        let worker = subject.process.link(&file)?;
        Ok(if worker == host {
            format!("{worker}, the host's")
        } else {
            "another than the host's".into()
        })
    });
    Finding::equal(file, "another than the host's".into(), both)
}

pub(super) fn mount(subject: &Subject) -> Vec<Finding> {
    vec![apart(subject, "mnt")]
}

pub(super) fn ipc(subject: &Subject) -> Vec<Finding> {
    vec![apart(subject, "ipc")]
}

pub(super) fn uts(subject: &Subject) -> Vec<Finding> {
    vec![apart(subject, "uts")]
}

pub(super) fn cgroup(subject: &Subject) -> Vec<Finding> {
    vec![apart(subject, "cgroup")]
}

pub(super) fn user(subject: &Subject) -> Vec<Finding> {
    let wanted = &subject.wanted;
    // Without a privilege in the parent namespace groups are denied for good before there is a map
    // (user_namespaces(7)). A root host's workers give their groups up instead.
    let setgroups = subject.process.text("setgroups");
    vec![
        apart(subject, "user"),
        one_id(subject, "uid_map", wanted.uid),
        one_id(subject, "gid_map", wanted.gid),
        if wanted.is_another {
            Finding::judged("setgroups", "deny, or allow", setgroups, |text| {
                ["deny", "allow"].contains(&text.trim())
            })
        } else {
            Finding::equal("setgroups", "deny\n".into(), setgroups)
        },
    ]
}

/// One line: first id inside, first id as the reader's namespace has it, how many.
fn one_id(subject: &Subject, file: &str, outside: u32) -> Finding {
    let found = subject.process.text(file);
    let expected = format!("one id, {outside} outside");
    Finding::judged(file, expected, found, |text| {
        let numbers: Vec<&str> = text.split_whitespace().collect();
        matches!(numbers[..], [_, outer, "1"] if outer == outside.to_string())
    })
}

pub(super) fn pid(subject: &Subject) -> Vec<Finding> {
    let own_number = |process: &Process| process.status("NSpid");
    // One number for each namespace from the reader's down to its own.
    let number = own_number(&subject.process);
    let is_nursed = subject.wanted.is_nursed;
    let (shape, others) = if is_nursed {
        ("two or more numbers, the last one not 1", 1)
    } else {
        ("two or more numbers, the last one 1", 0)
    };
    let mut findings = vec![
        apart(subject, "pid"),
        Finding::judged("status: NSpid", shape, number, |numbers| {
            let numbers: Vec<&str> = numbers.split_whitespace().collect();
            numbers.len() > 1 && (numbers.last() == Some(&"1")) != is_nursed
        }),
        Finding::equal(
            "processes in its pid namespace, of those that we may look at",
            1 + others,
            companions(subject),
        ),
    ];
    if is_nursed {
        findings.push(nursery(subject));
    }
    findings
}

/// The other process there is the worker's parent, the first of the namespace.
fn nursery(subject: &Subject) -> Finding {
    let found = subject.process.status("PPid").and_then(|parent| {
        let parent = Process::named(&parent);
        let (name, numbers) = (parent.status("Name")?, parent.status("NSpid")?);
        let number = numbers
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        Ok(format!("{name}, number {number}"))
    });
    // As much of the name as the kernel keeps.
    Finding::equal(
        "status: its parent",
        "cellwall-nurser, number 1".into(),
        found,
    )
}

/// How many processes are in the worker's pid namespace.
fn companions(subject: &Subject) -> Read<usize> {
    let namespace = subject.process.link("ns/pid")?;
    let all = Process::named("").names(".")?;
    let numbers = all.iter().filter_map(|name| name.parse::<u32>().ok());
    Ok(numbers
        .filter(|number| {
            let link = fs::read_link(format!("/proc/{number}/ns/pid"));
            link.is_ok_and(|link| link.to_string_lossy() == namespace)
        })
        .count())
}

pub(super) fn network(subject: &Subject) -> Vec<Finding> {
    let process = &subject.process;
    // Two lines of headings, then one for each device.
    let devices = process.text("net/dev").map(|text| {
        let names = text
            .lines()
            .skip(2)
            .filter_map(|line| line.split(':').next());
        names.map(str::trim).collect::<Vec<_>>().join(" ")
    });
    // A device has its addresses while it is up: the loopback's 127.0.0.1 appears with NETDEV_UP
    // (net/ipv4/devinet.c, inetdev_event).
    let addresses = process.text("net/fib_trie").and_then(|ipv4| {
        // A kernel without IPv6 has no such file.
        let ipv6 = match process.text("net/if_inet6") {
            Err(unread) if unread.kind == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        Ok(ipv4 + &ipv6)
    });
    let sockets = process
        .text("net/unix")
        .map(|text| text.lines().skip(1).count());
    vec![
        apart(subject, "net"),
        Finding::equal("net/dev: devices", "lo".into(), devices),
        Finding::equal(
            "net/fib_trie and net/if_inet6: addresses",
            String::new(),
            addresses,
        ),
        Finding::equal("net/unix: sockets", 0, sockets),
    ]
}

pub(super) fn root(subject: &Subject) -> Vec<Finding> {
    let process = &subject.process;
    let files = |directory: &str| process.names(directory).map(|names| names.join(" "));
    let mounts = process.text("mountinfo");
    vec![
        Finding::equal("root: what is in it", String::new(), files("root/.")),
        Finding::equal("cwd: what is in it", String::new(), files("cwd/.")),
        Finding::judged(
            "mountinfo",
            "one line: / is a tmpfs, ro,nosuid,nodev,noexec, of one inode",
            mounts,
            |text| text.lines().count() == 1 && is_empty_root(text),
        ),
    ]
}

/// Whether a line of mountinfo is the root that the zygote makes (proc(5): id, parent, device,
/// root of the mount, mount point, options, tags, "-", type, source, options of the file system).
fn is_empty_root(line: &str) -> bool {
    let (mount, system) = line.split_once(" - ").unwrap_or((line, ""));
    let mount: Vec<&str> = mount.split_whitespace().collect();
    let system: Vec<&str> = system.split_whitespace().collect();
    let options = |list: Option<&&str>, wanted: &[&str]| {
        let list: Vec<&str> = list.map_or(Vec::new(), |list| list.split(',').collect());
        wanted.iter().all(|option| list.contains(option))
    };
    mount.get(3..5) == Some(&["/", "/"])
        && options(mount.get(5), &["ro", "nosuid", "nodev", "noexec"])
        && system.first() == Some(&"tmpfs")
        && options(system.get(2), &["ro", "nr_inodes=1"])
}

#[cfg(test)]
mod tests {
    use super::is_empty_root;

    #[test]
    fn roots() {
        let good = "64 42 0:40 / / ro,nosuid,nodev,noexec,relatime - tmpfs none \
                    ro,size=4k,nr_inodes=1,uid=65534";
        assert!(is_empty_root(good));
        for (part, other) in [
            ("/ ro,nosuid", "/ rw,nosuid"),
            ("noexec", "exec"),
            ("none ro", "none rw"),
            ("nr_inodes=1,", ""),
            ("tmpfs", "ext4"),
            ("/ / ro", "/ /proc ro"),
            ("/ / ro", "/var / ro"),
        ] {
            assert!(!is_empty_root(&good.replace(part, other)), "{other}");
        }
        assert!(!is_empty_root(""));
    }
}
