//! Which numbers are written by hand in this crate: each must be compared, or be none of the
//! kernel's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::probe::Fact;
use crate::source::{Definition, definitions, short};

/// What no header has, with the reason.
const OURS: &[(&str, &str)] = &[
    ("arg::Arg::NULL", "nothing"),
    ("signal::SigSet::EMPTY", "nothing"),
    ("siginfo::SigInfo::errno", "nobody reads it"),
    ("siginfo::SigInfo::padding", "nobody reads it"),
    (
        "arch::CPU_AND_NODE_SEGMENT",
        "a selector of the vDSO's, in no header",
    ),
    ("arch::CPU_MASK", "the vDSO's"),
    (
        "cred::Ids",
        "the call writes three words by three addresses",
    ),
    ("errno::MAX", "the kernel's MAX_ERRNO, in no header"),
    ("landlock::Rights::NEWEST_ABI", "how much is known here"),
    ("uring::TRY", "a time of our own"),
    ("memfd::BLOCK_BYTES", "the unit of st_blocks, in no header"),
    ("mm::Backing::NO_FD", "no descriptor"),
    ("ports::PORTS", "what the CPU has"),
    ("random::NO_FLAGS", "none"),
    ("seccomp::INSTRUCTIONS_MAX", "the assembler's"),
    ("seccomp::LABELS_MAX", "the assembler's"),
    (
        "socket::Control",
        "a generated header and a descriptor, whose length libc's CMSG_LEN tells",
    ),
    ("time::NANOS", "what a second has"),
    ("uring::CANCELLATION", "a mark in user data"),
    ("uring::CANCEL_AGAIN", "a time"),
    ("uring::ENTRIES", "how many are wanted"),
    ("uring::GUARD_BYTES", "a length"),
    ("uring::INTERRUPTED_MAX", "how often something is tried"),
    ("uring::OPERATION", "a mark in user data"),
    ("uring::OPS", "what a number of 8 bits can name"),
    ("uring::OWNER", "a mark in memory"),
    (
        "uring::RESERVED_USER_DATA",
        "what the kernel hands back as it is",
    ),
    ("uring::REST", "a time"),
    (
        "uring::Table",
        "a generated header and generated elements, asserted",
    ),
    (
        "uring::TRANSFER_BYTES_MAX",
        "the kernel's MAX_RW_COUNT, in no header",
    ),
    ("uring::WRITE_BYTES_MAX", "a length"),
];

/// All source files, with the module that each is.
fn sources(folder: &Path, module: &str, found: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".rs") else {
            sources(&entry.path(), &format!("{module}{name}::"), found);
            continue;
        };
        let name = match stem {
            "tests" => continue,
            "mod" | "lib" => module.trim_end_matches("::").to_owned(),
            _ => format!("{module}{stem}"),
        };
        found.push((name, entry.path()));
    }
}

pub(crate) fn all_facts() -> Vec<Fact> {
    let mut facts = crate::constants::kernel();
    facts.extend(crate::constants::libc());
    facts.extend(crate::layouts::kernel());
    facts.extend(crate::layouts::libc());
    facts
}

#[test]
fn nothing_by_hand_is_forgotten() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        "",
        &mut files,
    );
    let facts = all_facts();
    let compared: BTreeSet<String> = facts
        .iter()
        .filter_map(|fact| fact.of.as_deref())
        .map(short)
        .collect();
    let structs: BTreeSet<&str> = facts.iter().map(|fact| fact.name.as_str()).collect();
    let (mut known, mut forgotten, mut count) = (BTreeSet::new(), Vec::new(), 0);
    for (module, file) in files {
        for definition in definitions(&module, &fs::read_to_string(file).unwrap()) {
            let Definition {
                path,
                same_as,
                field_of,
            } = definition;
            let generated =
                same_as.is_some_and(|theirs| structs.contains(format!("struct {theirs}").as_str()));
            let of = field_of.as_ref();
            let ours = |(name, _): &(&str, &str)| *name == path || of.is_some_and(|of| of == name);
            let ours = OURS.iter().any(ours);
            if !generated && !ours && !compared.contains(&path) {
                forgotten.push(path.clone());
            }
            count += usize::from(!ours);
            assert!(
                known.insert(path.clone()),
                "two are {path}: give one another name"
            );
        }
    }
    assert!(
        forgotten.is_empty(),
        "neither compared nor said to be ours: {forgotten:#?}"
    );
    let gone: Vec<_> = OURS
        .iter()
        .filter(|(name, _)| !known.contains(*name))
        .collect();
    assert!(gone.is_empty(), "no longer there: {gone:#?}");
    println!("by hand, and compared: {count}");
}
