//! The address space, by `maps` and `smaps`, which must be an exact list.
//!
//! `VmFlags` in `smaps` (since Linux 3.8) tell what a mapping may become: "mw" that mprotect may
//! make it writable, "sl" that it is sealed (fs/proc/task_mmu.c, show_smap_vma_flags). A shared
//! mapping of a file that is open read-only has no "mw" (mm/mmap.c, do_mmap).

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use vmctx::map;

use super::finding::Finding;
use super::proc::{Process, Read, silent};
use super::subject::{Subject, gaps, regions};

/// A line of `maps`, with the flags that `smaps` adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    start: u64,
    end: u64,
    rights: String,
    inode: u64,
    name: String,
    flags: Vec<String>,
}

/// A page that the kernel has for every process. It is no mapping of the process's own, and
/// `munmap` cannot remove it (arch/x86/entry/vsyscall/vsyscall_64.c).
const VSYSCALL: &str = "[vsyscall]";

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next()?.to_owned();
        let inode = words.nth(2)?.parse().ok()?;
        let name = words.collect::<Vec<_>>().join(" ");
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            rights,
            inode,
            name,
            flags: Vec::new(),
        })
    }

    fn has(&self, right: char) -> bool {
        self.rights.contains(right)
    }

    fn is_flagged(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }

    fn show(&self) -> String {
        let name = self.name.trim_start_matches("/memfd:");
        let name = name.trim_end_matches(" (deleted)");
        format!("{:x}-{:x} {} {name}", self.start, self.end, self.rights)
    }
}

/// The mappings of a process, by `smaps`, which begins each with its line of `maps`.
fn mappings(process: &Process) -> Read<Vec<Mapping>> {
    let text = process.text("smaps")?;
    let mut found: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let flags = flags.split_whitespace().map(str::to_owned).collect();
            if let Some(last) = found.last_mut() {
                last.flags = flags;
            }
        } else if let Some(mapping) = Mapping::parse(line) {
            found.push(mapping);
        }
    }
    if found.is_empty() {
        return Err(silent("smaps", "it names no mapping"));
    }
    Ok(found)
}

/// The process's own, without the kernel's page.
fn own(process: &Process) -> Read<Vec<Mapping>> {
    let mut found = mappings(process)?;
    found.retain(|mapping| mapping.name != VSYSCALL);
    Ok(found)
}

/// Everything but the zygote's image, whose length is its own.
fn expected(paged: bool) -> Vec<String> {
    let line = |span: &map::Span, rights: &str, name: &str| {
        let text = format!("{:x}-{:x} {rights} {name}", span.start, span.end);
        (span.start, text.trim_end().to_owned())
    };
    // Nothing that a guest can write is the worker's alone.
    let mut lines = vec![
        line(&map::HOST_PAGE, "r--s", "cellwall-host-page"),
        line(&map::SHARED, "rw-s", "cellwall-shared-pages"),
    ];
    let regions = regions(paged);
    lines.extend(
        regions
            .iter()
            .map(|(span, rights, name)| line(span, rights, name)),
    );
    lines.sort();
    lines.into_iter().map(|(_, text)| text).collect()
}

/// What is mapped and should not be, and the other way round.
fn differences(found: &[Mapping], paged: bool) -> Vec<String> {
    let (image, rest): (Vec<&Mapping>, Vec<&Mapping>) = found
        .iter()
        .partition(|mapping| map::IMAGE.contains(&mapping.start));
    let rest: Vec<String> = rest
        .iter()
        .map(|mapping| mapping.show().trim_end().to_owned())
        .collect();
    let expected = expected(paged);
    let extra = rest.iter().filter(|line| !expected.contains(line));
    let missing = expected.iter().filter(|line| !rest.contains(line));
    let mut faults: Vec<String> = extra.map(|line| format!("extra: {line}")).collect();
    faults.extend(missing.map(|line| format!("missing: {line}")));
    // Text, then constants (link.ld), from the first address on and without a gap.
    let rights: Vec<&str> = image.iter().map(|part| part.rights.as_str()).collect();
    let adjoin = image.windows(2).all(|pair| pair[0].end == pair[1].start);
    let begins = image
        .first()
        .is_some_and(|part| part.start == map::IMAGE.start);
    let ends = image
        .last()
        .is_some_and(|part| part.end <= map::IMAGE.start + map::IMAGE_BYTES_MAX);
    let named = image
        .iter()
        .all(|part| part.name == "/memfd:cellwall-zygote (deleted)");
    if rights != ["r-xp", "r--p"] || !adjoin || !begins || !ends || !named {
        let shown: Vec<String> = image.iter().map(|part| part.show()).collect();
        faults.push(format!("the image: {}", shown.join(", ")));
    }
    faults
}

/// Mappings that a touch makes pages of, and that are in no region: a userfaultfd is registered for
/// all others, for pages that are absent, that are only in the file, or that are not to be written
/// (fs/proc/task_mmu.c, "um", "ui", "uw"). And regions that it is registered for.
fn unwatched(found: &[Mapping], paged: bool) -> Vec<String> {
    let gaps: Vec<map::Span> = gaps().filter(|_| paged).collect();
    let is_wrong = |mapping: &&Mapping| {
        let is_gap = gaps.contains(&(mapping.start..mapping.end));
        let watched = ["um", "ui", "uw"].map(|flag| mapping.is_flagged(flag));
        map::GUEST.contains(&mapping.start) && watched != [is_gap; 3]
    };
    found.iter().filter(is_wrong).map(Mapping::show).collect()
}

pub(super) fn kernel_mappings(subject: &Subject) -> Vec<Finding> {
    let found = mappings(&subject.process);
    let page = found.clone().map(|found| {
        let page = found.into_iter().find(|mapping| mapping.name == VSYSCALL);
        page.map_or("absent".into(), |page| page.rights)
    });
    let paged = subject.is_paged();
    let differences = own(&subject.process).map(|found| differences(&found, paged));
    vec![
        Finding::faultless(
            "maps: the whole list",
            "the zygote's image, stacks and pages, the module's regions, what the host may fill, \
             and nothing else",
            differences,
        ),
        Finding::faultless(
            "smaps: what the kernel fills of guest memory without asking (no \"um\", \"ui\", \"uw\")",
            "the module's regions",
            own(&subject.process).map(|found| unwatched(&found, paged)),
        ),
        // With rights to read, a vsyscall is the kernel's code at a known place
        // (Documentation/admin-guide/kernel-parameters.txt, vsyscall=emulate).
        Finding::judged("maps: [vsyscall]", "absent, or --xp", page, |rights| {
            ["absent", "--xp"].contains(&rights.as_str())
        }),
    ]
}

pub(super) fn write_xor_execute(subject: &Subject) -> Vec<Finding> {
    let faults = own(&subject.process).map(|found| {
        let both = |mapping: &&Mapping| mapping.has('w') && mapping.has('x');
        let mut faults: Vec<String> = found.iter().filter(both).map(Mapping::show).collect();
        // Inode 0 is no file.
        let is_file = |mapping: &&Mapping| mapping.has('x') && mapping.inode != 0;
        for code in found.iter().filter(is_file) {
            let again = |other: &&Mapping| other.has('w') && other.inode == code.inode;
            let again = found.iter().filter(again).map(Mapping::show);
            faults.extend(again.map(|other| format!("{} is also {other}", code.show())));
        }
        faults
    });
    let code: Read<Vec<Mapping>> = own(&subject.process).map(|mut found| {
        found.retain(|mapping| mapping.has('x'));
        found
    });
    let becoming = code.clone().map(|code| {
        let shared = code.iter().filter(|mapping| mapping.has('s'));
        let faults = shared.filter(|mapping| mapping.is_flagged("mw") || mapping.flags.is_empty());
        faults.map(Mapping::show).collect()
    });
    vec![
        Finding::faultless(
            "maps: writable and executable at once, also by two mappings of a file",
            "none",
            faults,
        ),
        Finding::faultless(
            "smaps: shared code that mprotect could make writable (\"mw\")",
            "none",
            becoming,
        ),
        write_to_code(
            "the module's file",
            's',
            &code,
            &[ErrorKind::PermissionDenied],
        ),
        // Nobody writes to a file that is being executed, sealed or not (execve(2), ETXTBSY).
        write_to_code(
            "the zygote's file",
            'p',
            &code,
            &[ErrorKind::PermissionDenied, ErrorKind::ExecutableFileBusy],
        ),
    ]
}

/// Tries to write to a file that code is mapped from: this process has it open, and may open it
/// anew for writing, unless seals are in the way (memfd_create(2), F_SEAL_WRITE).
fn write_to_code(
    file: &str,
    sharing: char,
    code: &Read<Vec<Mapping>>,
    refusals: &[ErrorKind],
) -> Finding {
    let tried = code.clone().and_then(|code| {
        let mapping = code.into_iter().find(|mapping| mapping.has(sharing));
        let mapping = mapping.ok_or_else(|| silent("smaps", &format!("no code of {file}")))?;
        rewrite(mapping.inode)
    });
    let refusals: Vec<String> = refusals.iter().map(ErrorKind::to_string).collect();
    Finding::judged(
        format!("opening {file} anew and writing to it"),
        refusals.join(", or "),
        tried,
        |outcome| refusals.contains(outcome),
    )
}

/// Writes the first byte of the file over itself, which changes nothing if it gets through.
fn rewrite(inode: u64) -> Read<String> {
    let this = Process::named("self");
    for name in this.names("fd")? {
        let path = this.path("fd").join(name);
        let is_it = std::fs::metadata(&path).is_ok_and(|file| file.ino() == inode);
        let memory_file = std::fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:"));
        if !is_it || !memory_file {
            continue;
        }
        let written = OpenOptions::new().read(true).write(true).open(&path);
        let written = written.and_then(|file| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, 0)?;
            file.write_all_at(&byte, 0)
        });
        return Ok(match written {
            Ok(()) => "written".into(),
            Err(error) => error.kind().to_string(),
        });
    }
    Err(silent(
        "/proc/self/fd",
        &format!("no memory file of inode {inode}"),
    ))
}

pub(super) fn seals(subject: &Subject) -> Vec<Finding> {
    let open = own(&subject.process).map(|found| {
        let unsealed = found.iter().filter(|mapping| !mapping.is_flagged("sl"));
        unsealed.map(Mapping::show).collect()
    });
    vec![Finding::faultless(
        "smaps: mappings that are not sealed (no \"sl\" in VmFlags)",
        "none",
        open,
    )]
}

pub(super) fn shared_words(subject: &Subject) -> Vec<Finding> {
    let page = own(&subject.process).and_then(|found| {
        let page = found
            .into_iter()
            .find(|mapping| mapping.start == map::HOST_PAGE.start);
        page.ok_or_else(|| silent("smaps", "no host page"))
    });
    let rights = page.clone().map(|page| {
        let becomes = if page.is_flagged("mw") || page.flags.is_empty() {
            "could become writable"
        } else {
            "never writable"
        };
        format!("{}, {becomes}", page.rights)
    });
    // The same file, written here.
    let ours = page.and_then(|page| {
        let here = mappings(&subject.host)?;
        let same = |other: &&Mapping| other.inode == page.inode && other.name == page.name;
        Ok(here
            .iter()
            .find(same)
            .map_or("none".into(), |here| here.rights.clone()))
    });
    let span = format!("{:x}-{:x}", map::HOST_PAGE.start, map::HOST_PAGE.end);
    // The link has the rights that the file was opened with (fs/proc/base.c,
    // proc_map_files_instantiate).
    let opened = subject.process.metadata(&format!("map_files/{span}"));
    let opened = opened.map(|link| format!("{:03o}", link.mode() & 0o777));
    vec![
        Finding::equal(
            "smaps: the host page",
            "r--s, never writable".into(),
            rights,
        ),
        Finding::equal(
            "map_files: how the host page's file was opened",
            "400".into(),
            opened,
        ),
        Finding::equal("maps of the host: the same page", "rw-s".into(), ours),
    ]
}

#[cfg(test)]
mod tests;
