//! Kernels and an emulator, out of Debian's packages.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::apt::{Apt, files, once, release, runs, unpack};

/// A kernel that `xtask/kernels.txt` pins.
pub(super) struct Kernel {
    pub(super) series: String,
    suite: String,
    pub(super) package: String,
}

impl Kernel {
    pub(super) fn pinned(line: &str) -> Result<Self, Failure> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let [series, suite, package] = words
            .try_into()
            .map_err(|_| format!("not a series, a suite and a package: {line}"))?;
        Ok(Self {
            series,
            suite,
            package,
        })
    }

    /// The bootable file of its package.
    pub(super) fn image(&self, cache: &Path) -> Result<PathBuf, Failure> {
        let unpacked = once(&cache.join(&self.package), |folder| {
            let apt = Apt::new(&cache.join("apt").join(&self.suite), &[&self.suite])?;
            let debs = apt.download(&self.package).map_err(|failure| {
                let offered = apt.offered(&self.series);
                format!("{failure}\n{} has now: {offered}", self.suite)
            })?;
            unpack(&debs, folder)
        })?;
        image_in(&unpacked).ok_or_else(|| format!("no kernel in {}", self.package).into())
    }
}

/// From 7.2 on it is beside the modules.
fn image_in(unpacked: &Path) -> Option<PathBuf> {
    let modules = files(&unpacked.join("usr/lib/modules"));
    let beside = modules.into_iter().map(|folder| folder.join("vmlinuz"));
    let is_image = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.starts_with("vmlinuz")) && path.is_file()
    };
    let boot = files(&unpacked.join("boot"));
    boot.into_iter().chain(beside).find(is_image)
}

/// An emulator: the system's, or an unpacked one.
pub(super) struct Qemu {
    unpacked: Option<PathBuf>,
}

const QEMU: &str = "qemu-system-x86_64";

/// The system's, or else the newest that its release has, with what that needs and the system does
/// not have.
pub(super) fn qemu(cache: &Path) -> Result<Qemu, Failure> {
    if runs(Command::new(QEMU).arg("--version")).is_ok() {
        return Ok(Qemu { unpacked: None });
    }
    let unpacked = once(&cache.join("qemu"), |folder| {
        let release = release()?;
        let (updates, security, backports) = (
            format!("{release}-updates"),
            format!("{release}-security"),
            format!("{release}-backports"),
        );
        let suites = [release.as_str(), &updates, &security, &backports];
        let apt = Apt::new(&cache.join("apt/qemu"), &suites)?;
        let debs = apt.download_with_needs("qemu-system-x86", &backports)?;
        unpack(&debs, folder)
    })?;
    let unpacked = Some(unpacked);
    Ok(Qemu { unpacked })
}

impl Qemu {
    pub(super) fn command(&self) -> Command {
        let Some(root) = &self.unpacked else {
            return Command::new(QEMU);
        };
        let mut command = Command::new(root.join("usr/bin").join(QEMU));
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let libraries = libraries.map(|folder| root.join(folder).display().to_string());
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(root.join(firmware));
        }
        command
    }
}
