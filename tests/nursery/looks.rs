//! A nursery and its workers, looked at from outside.

use std::collections::BTreeSet;
use std::fs;

use cellwall::{Engine, Instance, Layer, Standing};
use vmctx::map::{self, Span};
use vmctx::slots::{self, nursery as own};

use super::{alone_with_one, nursery, returning, works};
use crate::harness::{DATA, engine, parts, proc};

/// A file of a process's directory in `/proc`.
fn read(process: u32, file: &str) -> String {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn status(process: u32, key: &str) -> String {
    let text = read(process, "status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
}

/// A line of `maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    span: Span,
    rights: String,
    offset: u64,
    inode: u64,
    name: String,
}

impl Mapped {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let number = |digits| u64::from_str_radix(digits, 16).unwrap();
        Self {
            span: number(start)..number(end),
            rights: words[1].to_owned(),
            offset: number(words[2]),
            inode: words[4].parse().unwrap(),
            name: words.get(5).copied().unwrap_or_default().to_owned(),
        }
    }

    fn all(maps: &str) -> Vec<Self> {
        let lines = maps.lines().filter(|line| !line.contains("[vsyscall]"));
        lines.map(Self::parse).collect()
    }
}

#[test]
fn a_nursery_has_what_it_needs() {
    alone_with_one("nursery::looks::a_nursery_has_what_it_needs", || {
        let engine = engine();
        engine.warm_up().unwrap();
        let nursery = nursery();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(nursery, set), "0000000000000000", "{set}");
        }
        for (key, value) in [
            ("Name", "cellwall-nurser"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("Threads", "1"),
            ("SigBlk", "0000000000000000"),
            ("SigIgn", "0000000000000000"),
        ] {
            assert_eq!(status(nursery, key), value, "{key}");
        }
        assert!(
            status(nursery, "NSpid").ends_with("\t1"),
            "the first of its namespace"
        );
        // Its root is empty, and there is no way out of it.
        for place in ["root", "cwd"] {
            let entries = fs::read_dir(format!("/proc/{nursery}/{place}/")).unwrap();
            assert_eq!(entries.count(), 0, "{place}");
        }
        assert_eq!(read(nursery, "mountinfo").lines().count(), 1);
        // That it is not dumpable, its workers tell of themselves, who inherit it.
        let worker = engine.instantiate(&returning(&engine)).unwrap();
        let standing = worker.layers().standing(Layer::NotDumpable);
        assert_eq!(standing, Standing::InForce);
        assert_eq!(
            maps_of_a_nursery(&read(nursery, "maps")),
            Vec::<String>::new()
        );
    });
}

/// What is wrong with them: no guest's memory or code is among them.
fn maps_of_a_nursery(maps: &str) -> Vec<String> {
    let expected = [
        (&map::SHARED, "rw-s", "/memfd:cellwall-shared-pages"),
        (&map::HOST_PAGE, "r--s", "/memfd:cellwall-host-page"),
        (&map::RING, "rw-s", "/memfd:cellwall-ring"),
        (&map::NURSERY_STACK, "rw-p", ""),
    ];
    let (image, rest): (Vec<Mapped>, Vec<Mapped>) = Mapped::all(maps)
        .into_iter()
        .partition(|mapped| map::IMAGE.contains(&mapped.span.start));
    let image: Vec<&str> = image.iter().map(|mapped| mapped.rights.as_str()).collect();
    let mut wrong = Vec::new();
    if image != ["r-xp", "r--p"] {
        wrong.push(format!("the image: {image:?}"));
    }
    for mapped in &rest {
        let is_such = |(span, rights, name): &(&Span, &str, &str)| {
            (*span, *rights, *name) == (&mapped.span, &mapped.rights, &mapped.name)
        };
        if !expected.iter().any(is_such) {
            wrong.push(format!("{mapped:x?}"));
        }
    }
    if rest.len() != expected.len() {
        wrong.push(format!("{} mappings", rest.len()));
    }
    wrong
}

/// What is behind each of its descriptors.
fn descriptors(nursery: u32) -> Vec<(i32, String)> {
    let entries = fs::read_dir(format!("/proc/{nursery}/fd"))
        .unwrap()
        .flatten();
    let one = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        let link = fs::read_link(entry.path()).unwrap();
        let name = link.to_string_lossy().into_owned();
        (
            number,
            name.split(':').take(2).collect::<Vec<_>>().join(":"),
        )
    };
    let mut all: Vec<(i32, String)> = entries.map(one).collect();
    all.sort();
    all
}

fn names(list: &[(i32, String)]) -> Vec<(i32, &str)> {
    let short = |name: &'static str| name;
    let of = |(number, name): &(i32, String)| {
        let known = [
            "cellwall-host-page",
            "cellwall-shared-pages",
            "cellwall-ring",
            "cellwall-memory",
            "cellwall-module",
            "cellwall-code",
            "socket:",
            "pidfd",
            "userfaultfd",
        ];
        let found = known.into_iter().find(|known| name.contains(known));
        (*number, found.map_or("something else", short))
    };
    list.iter().map(of).collect()
}

#[test]
fn a_nursery_has_these_descriptors() {
    alone_with_one("nursery::looks::a_nursery_has_these_descriptors", || {
        let engine = engine();
        engine.warm_up().unwrap();
        let nursery = nursery();
        let of_its_own = [
            (slots::HOST_PAGE, "cellwall-host-page"),
            (slots::SHARED_PAGES, "cellwall-shared-pages"),
            (own::RING, "cellwall-ring"),
            (own::HOST_PAGES, "cellwall-host-page"),
            (slots::HOST_PIDFD, "pidfd"),
            (own::SOCKET, "socket:"),
            (own::SHARED_PAGES, "cellwall-shared-pages"),
        ];
        assert_eq!(names(&descriptors(nursery)), of_its_own);
        // With workers: a pidfd and perhaps a userfaultfd until the next one; a module; memories.
        let module = returning(&engine);
        let code_window = parts(&[0xc3]).code_window(map::CODE_WINDOW.start + 0x10_0000, 0x1000);
        let with_code = code_window.build(&engine).unwrap();
        let instances = [&module, &with_code, &module]
            .map(|module| engine.instantiate(module).expect("an instance"));
        let found = descriptors(nursery);
        let found = names(&found);
        let count = |wanted: &str| found.iter().filter(|(_, name)| *name == wanted).count();
        assert_eq!(count("cellwall-module"), 2, "{found:?}");
        assert_eq!(count("cellwall-memory"), instances.len(), "{found:?}");
        // Taken back once the worker has it.
        assert_eq!(count("cellwall-code"), 0, "{found:?}");
        assert_eq!(count("something else"), 0, "{found:?}");
        assert_eq!(
            count("pidfd"),
            2,
            "the host's and the last worker's: {found:?}"
        );
        assert!(count("userfaultfd") <= 1, "{found:?}");
        for (number, name) in &found {
            let legal = match *name {
                "cellwall-module" | "cellwall-memory" => own::ADOPTED.contains(number),
                "userfaultfd" => own::FRESH.contains(number),
                _ => *number < own::FRESH.end,
            };
            assert!(legal, "{number}: {name}");
        }
        drop(instances);
    });
}

fn several(engine: &Engine) -> Vec<Instance> {
    let module = returning(engine);
    (0..8)
        .map(|_| engine.instantiate(&module).unwrap())
        .collect()
}

#[test]
fn no_worker_has_what_is_another_s() {
    alone_with_one("nursery::looks::no_worker_has_what_is_another_s", || {
        let engine = engine();
        let mut instances = several(&engine);
        instances.iter_mut().for_each(works);
        let (mut memories, mut offsets) = (BTreeSet::new(), BTreeSet::new());
        let mut host_pages = BTreeSet::new();
        for instance in &instances {
            let all = Mapped::all(&proc(instance, "maps"));
            let of_the_nursery = all.iter().filter(|mapped| {
                let ends_before = mapped.span.end <= map::NURSERY.start;
                !ends_before && mapped.span.start < map::NURSERY.end
                    || mapped.name.contains("cellwall-ring")
                    || mapped.rights.ends_with("wp")
            });
            assert_eq!(of_the_nursery.count(), 0, "{all:x?}");
            let at = |start: u64| {
                all.iter()
                    .find(|mapped| mapped.span.contains(&start))
                    .unwrap()
            };
            let memory = at(DATA).inode;
            // All that is guest memory is of one file, at the offset that is its address.
            for mapped in all
                .iter()
                .filter(|mapped| mapped.name.contains("cellwall-memory"))
            {
                assert_eq!((mapped.inode, mapped.offset), (memory, mapped.span.start));
            }
            let shared = at(map::SHARED.start);
            let host = at(map::HOST_PAGE.start);
            assert_eq!(shared.offset % map::SHARED_BYTES, 0);
            // The same place in both.
            assert_eq!(shared.offset / map::SHARED_BYTES, host.offset / 0x1000);
            let of_pages = all.iter().filter(|mapped| {
                let name = &mapped.name;
                name.contains("cellwall-shared-pages") || name.contains("cellwall-host-page")
            });
            assert_eq!(of_pages.count(), 2, "one of each");
            memories.insert(memory);
            offsets.insert((shared.inode, shared.offset));
            host_pages.insert((host.inode, host.offset));
        }
        for set in [offsets, host_pages] {
            assert_eq!(set.len(), instances.len());
            let files: BTreeSet<u64> = set.into_iter().map(|(inode, _)| inode).collect();
            assert_eq!(files.len(), 1, "parts of one file");
        }
        assert_eq!(memories.len(), instances.len());
    });
}
