//! An initramfs: an archive that the kernel unpacks as its first root. The format is newc
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::apt::runs;

/// File types and permissions (inode(7)).
const FOLDER: u32 = 0o40_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o20_600;
/// The number of `/dev/console`, which init's output is.
const CONSOLE_DEVICE: (u32, u32) = (5, 1);

pub(super) struct Initramfs {
    /// In the order of their paths: a folder comes before what is in it.
    entries: BTreeMap<PathBuf, Entry>,
}

struct Entry {
    mode: u32,
    device: (u32, u32),
    bytes: Vec<u8>,
}

impl Entry {
    fn new(mode: u32, bytes: Vec<u8>) -> Self {
        let device = (0, 0);
        Self {
            mode,
            device,
            bytes,
        }
    }
}

impl Initramfs {
    /// One with a console.
    pub(super) fn new() -> Self {
        let mut made = Self {
            entries: BTreeMap::new(),
        };
        let mut console = Entry::new(CONSOLE, Vec::new());
        console.device = CONSOLE_DEVICE;
        made.add(Path::new("/dev/console"), console);
        made
    }

    /// Adds a program, and the libraries that it is loaded with here, each where it is here.
    pub(super) fn program(&mut self, from: &Path, to: impl AsRef<Path>) -> Result<(), Failure> {
        for library in libraries(from)? {
            if !self.has(&library) {
                let bytes = fs::read(&library)?;
                self.add(&library, Entry::new(PROGRAM, bytes));
            }
        }
        self.add(to.as_ref(), Entry::new(PROGRAM, stripped(from)?));
        Ok(())
    }

    /// Adds a tool of this machine's, into one folder with the others.
    pub(super) fn tool(&mut self, name: &str, folder: &str) -> Result<(), Failure> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
        let found = places.find(|place| place.is_file());
        let found = found.ok_or_else(|| format!("the tests start {name}, which is not here"))?;
        self.program(&found, Path::new(folder).join(name))
    }

    /// Adds a text.
    pub(super) fn text(&mut self, to: &Path, text: String) {
        self.add(to, Entry::new(FILE, text.into_bytes()));
    }

    fn has(&self, path: &Path) -> bool {
        self.entries.contains_key(inside(path))
    }

    fn add(&mut self, path: &Path, entry: Entry) {
        let path = inside(path);
        for folder in path.ancestors().skip(1) {
            let folder = folder.to_owned();
            let made = || Entry::new(FOLDER, Vec::new());
            self.entries.entry(folder).or_insert_with(made);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// The archive's bytes.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Failure> {
        self.entries.remove(Path::new(""));
        let mut archive = Vec::new();
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            let name = path.to_str().ok_or("a path that is not UTF-8")?;
            append(&mut archive, number + 1, name, entry)?;
        }
        append(&mut archive, 0, "TRAILER!!!", &Entry::new(0, Vec::new()))?;
        Ok(archive)
    }
}

/// A path without the root, as the archive has it.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn append(archive: &mut Vec<u8>, number: usize, name: &str, entry: &Entry) -> Result<(), Failure> {
    let (user, group, links, time) = (0, 0, 1, 0);
    let header = [
        u32::try_from(number)?,
        entry.mode,
        user,
        group,
        links,
        time,
        u32::try_from(entry.bytes.len())?,
        0, // the device that it is on
        0,
        entry.device.0,
        entry.device.1,
        u32::try_from(name.len() + 1)?,
        0, // no checksum
    ];
    archive.extend_from_slice(b"070701");
    for field in header {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(&entry.bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}

/// What a program is loaded with, the loader included: `ldd` names each with its path.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, Failure> {
    let listed = Command::new("ldd").arg(program).output()?;
    // One that is static has none, and ldd fails.
    let listed = String::from_utf8(listed.stdout)?;
    let paths = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| word.starts_with('/')).map(PathBuf::from)
    });
    Ok(paths.collect())
}

/// A program without what only debuggers read: most of a test's bytes, which are in the machine's
/// memory all the time.
fn stripped(program: &Path) -> Result<Vec<u8>, Failure> {
    let to = std::env::temp_dir().join(format!("cellwall-stripped-{}", std::process::id()));
    runs(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(&to)
            .arg(program),
    )?;
    let bytes = fs::read(&to)?;
    fs::remove_file(to)?;
    Ok(bytes)
}
