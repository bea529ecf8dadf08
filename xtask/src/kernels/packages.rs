//! Kernels and an emulator, out of Debian's packages.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pins::Pin;
use super::propose::{has, offered};
use crate::Failure;
use crate::apt::{Apt, files, once, release, runs, unpack};

/// The bootable file of a pinned package.
pub(super) fn image(cache: &Path, pin: &Pin) -> Result<PathBuf, Failure> {
    let unpacked = once(&cache.join(&pin.package), |folder| {
        eprintln!("downloading {} from {} ...", pin.package, pin.suite);
        let apt = Apt::new(&cache.join("apt").join(&pin.suite), &[&pin.suite])?;
        let debs = apt.download(&pin.package).map_err(|failure| {
            let offered = offered(&apt, pin);
            format!("{failure}\n{} has now: {offered}", pin.suite)
        })?;
        unpack(&debs, folder)
    })?;
    image_in(&unpacked).ok_or_else(|| format!("no kernel in {}", pin.package).into())
}

/// Whether the suite of a pin is to be had, and has the pin's version no more.
pub(super) fn is_gone(cache: &Path, pin: &Pin) -> Result<bool, Failure> {
    let apt = Apt::new(&cache.join("apt").join(&pin.suite), &[&pin.suite])?;
    Ok(!has(&apt.kernels()?, pin))
}

/// From 7.2 on it is beside the modules.
fn image_in(unpacked: &Path) -> Option<PathBuf> {
    let modules = files(&unpacked.join("usr/lib/modules"));
    let beside = modules.iter().flat_map(|folder| files(folder));
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
        eprintln!("downloading QEMU ...");
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
    /// As it says itself: `10.0.2`.
    pub(super) fn version(&self) -> Result<String, Failure> {
        let said = runs(self.command().arg("--version"))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let mut words = said.split_whitespace();
        let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        Ok(version.ok_or("QEMU says no version")?.to_owned())
    }

    /// One that does not outlive us, should we be ended: a machine of which nobody reads runs on.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        let Some(root) = &self.unpacked else {
            command.arg(QEMU);
            return command;
        };
        command.arg(root.join("usr/bin").join(QEMU));
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let libraries = libraries.map(|folder| root.join(folder).display().to_string());
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(root.join(firmware));
        }
        command
    }
}
