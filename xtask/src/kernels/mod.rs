//! The tests inside kernels that this machine does not run, in QEMU: what hangs on a kernel's
//! version or configuration, such as the controllers of cgroups.
//!
//! | file | what |
//! |---|---|
//! | `packages` | kernels and QEMU, from the machine's own package sources |
//! | `initramfs` | the one file that a kernel boots with: the tests, and this program as init |
//! | `boot` | QEMU, and what comes out of it |
//! | `inside` | what this program does as init |
//!
//! Nothing is installed: packages are unpacked under `target/kernels/`, and run from there. Nothing
//! is built anew for it: the tests are those of `cargo test`, and their libraries come along. To
//! have another series, add its line to `xtask/kernels.txt`; for other tests, name their package
//! in `packed`.

mod boot;
mod initramfs;
mod inside;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use self::initramfs::Initramfs;
pub(crate) use self::inside::{Inside, run as run_inside};
use self::packages::Kernel;
use crate::Failure;

/// The pinned versions.
const PINS: &str = "xtask/kernels.txt";

#[derive(Args)]
pub(crate) struct Options {
    /// Which, as xtask/kernels.txt has them. All, by default.
    series: Vec<String>,
    /// Only tests whose name holds this.
    #[arg(long)]
    only: Option<String>,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let pins = fs::read_to_string(root.join(PINS))?;
    let kernels = chosen(&pins, &options.series)?;
    let cache = crate::target(root).join("kernels");
    fs::create_dir_all(&cache)?;
    // A relative path would be another's elsewhere: programs are started in folders of their own.
    let cache = cache.canonicalize()?;
    let qemu = packages::qemu(&cache)?;
    let initramfs = packed(root, &cache)?;
    let mut failed = Vec::new();
    for kernel in kernels {
        println!("== {} ({})", kernel.series, kernel.package);
        let outcome = kernel
            .image(&cache)
            .and_then(|image| boot::boot(&qemu, &image, &initramfs, options.only.as_deref()));
        if let Err(failure) = outcome {
            eprintln!("{}: {failure}", kernel.series);
            failed.push(kernel.series);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}

/// The pinned kernels that are asked for.
fn chosen(pins: &str, series: &[String]) -> Result<Vec<Kernel>, Failure> {
    let lines = pins.lines().filter(|line| !line.starts_with('#'));
    let pinned: Vec<Kernel> = lines.map(Kernel::pinned).collect::<Result<_, _>>()?;
    for wanted in series {
        if !pinned.iter().any(|kernel| kernel.series == *wanted) {
            return Err(format!("{PINS} has no {wanted}").into());
        }
    }
    let is_wanted = |kernel: &Kernel| series.is_empty() || series.contains(&kernel.series);
    Ok(pinned.into_iter().filter(is_wanted).collect())
}

/// Builds the tests, and packs them with what they need.
fn packed(root: &Path, cache: &Path) -> Result<PathBuf, Failure> {
    let mut initramfs = Initramfs::new();
    initramfs.program(&std::env::current_exe()?, inside::INIT)?;
    for test in crate::suite::build(root, &crate::target(root), &["cellwall"])? {
        let name = test.file_name().ok_or("a program without a name")?;
        initramfs.program(&test, Path::new(inside::TESTS).join(name))?;
    }
    let path = cache.join("initramfs.cpio");
    fs::write(&path, initramfs.finish()?)?;
    Ok(path)
}
