//! What headers may lack: that which is newer than they are.

use crate::probe::{Fact, Version};

/// Since when each kernel has what came after [`OLDEST`].
const SINCE: &[(Version, &[&str])] = &[
    ((6, 2), &["LANDLOCK_ACCESS_FS_TRUNCATE"]),
    (
        (6, 3),
        &[
            "MFD_EXEC",
            "F_SEAL_EXEC",
            "PR_SET_MDWE",
            "PR_GET_MDWE",
            "PR_MDWE_REFUSE_EXEC_GAIN",
        ],
    ),
    ((6, 4), &["UFFDIO_CONTINUE_MODE_WP"]),
    (
        (6, 7),
        &[
            "LANDLOCK_ACCESS_NET_BIND_TCP",
            "LANDLOCK_ACCESS_NET_CONNECT_TCP",
            "PAGEMAP_SCAN",
            "struct landlock_ruleset_attr.handled_access_net",
        ],
    ),
    ((6, 9), &["PIDFD_THREAD"]),
    ((6, 10), &["__NR_mseal", "LANDLOCK_ACCESS_FS_IOCTL_DEV"]),
    (
        (6, 12),
        &[
            "LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET",
            "LANDLOCK_SCOPE_SIGNAL",
            "sizeof(struct landlock_ruleset_attr) >= 24",
            "struct landlock_ruleset_attr.scoped",
        ],
    ),
    (
        (6, 15),
        &[
            "LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF",
            "LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON",
            "LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF",
        ],
    ),
    ((7, 0), &["LANDLOCK_RESTRICT_SELF_TSYNC"]),
    ((7, 1), &["LANDLOCK_ACCESS_FS_RESOLVE_UNIX"]),
    (
        (7, 2),
        &[
            "LANDLOCK_ACCESS_NET_BIND_UDP",
            "LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP",
        ],
    ),
];

/// Headers that are older may lack anything.
const OLDEST: Version = (6, 1);

fn since(name: &str) -> Option<Version> {
    let mut all = SINCE.iter();
    all.find(|(_, names)| names.contains(&name))
        .map(|(version, _)| *version)
}

/// In which version it came, if that is known.
pub(crate) fn told(name: &str) -> String {
    since(name).map_or_else(String::new, |(major, minor)| {
        format!(", which came with Linux {major}.{minor}")
    })
}

/// What headers of this version should have.
pub(crate) fn missing(lacking: Vec<String>, version: Version) -> Vec<String> {
    let mut missing = lacking;
    missing.retain(|name| version >= since(name).unwrap_or(OLDEST));
    missing
}

#[test]
fn what_is_newer_is_compared_somewhere() {
    let facts: Vec<Fact> = crate::by_hand::all_facts();
    for name in SINCE.iter().flat_map(|(_, names)| *names) {
        assert!(facts.iter().any(|fact| fact.name == *name), "{name}");
    }
}
