//! Which numbers are written by hand in this crate: each must be compared, or be none of the
//! kernel's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::probe::Fact;

/// What no header has, with the reason.
const OURS: &[(&str, &str)] = &[
    ("arg::Arg::NULL", "nothing"),
    ("signal::SigSet::EMPTY", "nothing"),
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

/// Something that is written by hand.
#[derive(Debug)]
struct Definition {
    /// `landlock::AccessFs::TSYNC`: as a user of the module names it.
    path: String,
    /// The generated struct that the build compares it with.
    same_as: Option<String>,
}

/// A path with the modules between left out: names are unique in what the crate shows of them.
fn short(path: &str) -> String {
    let is_type = |part: &str| part.starts_with(char::is_uppercase);
    let parts: Vec<&str> = path
        .split("::")
        .map(|part| part.split('<').next().unwrap_or(part))
        .collect();
    let last = parts.len() - 1;
    let kept = parts.iter().enumerate();
    let kept = kept.filter(|(at, part)| *at == 0 || *at == last || is_type(part));
    kept.map(|(_, part)| *part).collect::<Vec<_>>().join("::")
}

/// Whether some code has a number in it, and nothing that was generated.
fn has_number(code: &str) -> bool {
    let generated = [
        "sys::", "bit::", "kernel::", "number::", "errno::", "self.", "Self {",
    ];
    let mut before = ' ';
    let mut any = false;
    for letter in code.chars() {
        any |= letter.is_ascii_digit() && !before.is_alphanumeric() && before != '_';
        before = letter;
    }
    any && !generated.iter().any(|module| code.contains(module))
}

/// What follows a word, up to the end of the name.
fn name_after(line: &str, word: &str) -> Option<String> {
    let (before, after) = line.split_once(word)?;
    let begins = before.is_empty() || before.ends_with([' ', '(']);
    let name: String = after
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect();
    (begins && !name.is_empty()).then_some(name)
}

/// What a file defines by hand. It is read as rustfmt writes it: a line begins an item, and what is
/// inside is indented.
fn definitions(module: &str, text: &str) -> Vec<Definition> {
    let code: Vec<&str> = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let mut found = Vec::new();
    // Types that the line is in, with their indentation.
    let mut within: Vec<(usize, String)> = Vec::new();
    let mut is_layout = false;
    for (at, line) in code.iter().enumerate() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        if line.is_empty() {
            continue;
        }
        within.retain(|(outer, _)| indent > *outer);
        let scope = within
            .last()
            .map(|(_, name)| format!("::{name}"))
            .unwrap_or_default();
        let path = |name: &str| short(&format!("{module}{scope}::{name}"));
        let whole = || {
            let rest = code[at..].iter().map(|line| line.trim());
            let rest: Vec<&str> = rest
                .take_while({
                    let mut ended = false;
                    move |line| !std::mem::replace(&mut ended, line.ends_with([';', ',']))
                })
                .collect();
            rest.join(" ")
        };
        let value = || {
            whole()
                .split_once('=')
                .map(|(_, value)| value.to_owned())
                .unwrap_or_default()
        };
        let is_const = !line.contains("const fn") && !line.contains("const _");
        if is_const
            && (line.starts_with("const ") || line.starts_with("pub"))
            && let Some(name) = name_after(line, "const ")
        {
            if has_number(&value()) {
                found.push(Definition {
                    path: path(&name),
                    same_as: None,
                });
            }
        } else if let Some(name) = name_after(line, "struct ").or_else(|| name_after(line, "enum "))
        {
            if is_layout && line.contains("struct ") {
                let tied = text.split("same_layout!(").skip(1).find_map(|rest| {
                    let (ours, rest) = rest.split_once(", ")?;
                    let theirs = rest.split(':').filter(|part| !part.is_empty());
                    let theirs = theirs
                        .take_while(|part| !part.starts_with([' ', '\n']))
                        .last()?;
                    (ours.split('<').next() == Some(&name)).then(|| theirs.to_owned())
                });
                found.push(Definition {
                    path: path(&name),
                    same_as: tied,
                });
            }
            within.push((indent, name));
        } else if let Some(name) = line
            .strip_suffix(" {")
            .filter(|line| line.starts_with("impl"))
        {
            let name = name.rsplit(' ').next().unwrap_or_default();
            within.push((
                indent,
                name.split('<').next().unwrap_or_default().to_owned(),
            ));
        } else if !within.is_empty()
            && line.ends_with(',')
            && let Some((name, value)) = line.split_once(" = ")
        {
            // A variant.
            let is_name =
                name.chars().all(char::is_alphanumeric) && name.starts_with(char::is_uppercase);
            if is_name && has_number(value) {
                found.push(Definition {
                    path: path(name),
                    same_as: None,
                });
            }
        }
        is_layout = line.starts_with("#[repr(C")
            || (is_layout && !line.starts_with("pub struct") && !line.contains("struct "));
    }
    found
}

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
            let Definition { path, same_as } = definition;
            let generated =
                same_as.is_some_and(|theirs| structs.contains(format!("struct {theirs}").as_str()));
            let ours = OURS.iter().any(|(name, _)| *name == path);
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
