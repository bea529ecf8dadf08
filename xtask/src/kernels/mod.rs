//! The matrix: kernels that this machine does not run, booted in QEMU; and inside each, as root and
//! as an ordinary user, the probe, the tests and the audit.
//!
//! | file | what |
//! |---|---|
//! | `pins` | which kernels |
//! | `propose` | which newer ones there are |
//! | `packages` | kernels and QEMU, from the machine's own package sources |
//! | `choice` | which tests |
//! | `initramfs` | the one file that a kernel boots with: the tests, and this program as init |
//! | `boot` | QEMU, and what comes out of it |
//! | `inside` | what this program does as init |
//! | `facts` | what is found inside |
//! | `judge` | whether that is what is expected |
//! | `rows`, `page` | what is kept of it, as JSON and as a page |
//! | `compare` | how that differs from what is found now |
//!
//! Nothing is installed: packages are unpacked under `target/kernels/`, and run from there. Nothing
//! is built anew for it: the tests are those of `cargo test`, and their libraries come along.

mod boot;
mod choice;
mod compare;
mod facts;
mod initramfs;
mod inside;
mod judge;
mod packages;
mod page;
mod pins;
mod propose;
mod rows;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use self::boot::{BOUND, Boot, QUICK_BOUND};
use self::choice::{Choice, Wanted};
use self::compare::{Booted, Compared};
use self::facts::Facts;
use self::inside::Part;
pub(crate) use self::inside::{Inside, run as run_inside};
use self::judge::Expected;
use self::packages::Qemu;
use self::pins::{Pin, Pins};
use self::rows::{Kernel, Rows};
use crate::Failure;

#[derive(Args)]
pub(crate) struct Options {
    /// Which kernels, as xtask/kernels.txt names them. All, by default.
    series: Vec<String>,
    /// Only tests whose name holds this: no probe, no audit, and docs/kernels.md is not looked at.
    /// With --write, what they miss is added to a row, whose counts stay. Or `probe`, for that
    /// alone: some seconds a kernel. With --write, what it has found is all that is written of a
    /// row; the tests' part and the audit's stay.
    #[arg(long)]
    only: Option<String>,
    /// Only the tests that hang on the kernel most, as xtask/kernels-quick.txt names them.
    #[arg(long, conflicts_with = "write")]
    quick: bool,
    /// Where the mirrors have dropped a pinned version, boot the newest that they have instead,
    /// say so, and compare what does not hang on the version. Of another series, to which `stable`
    /// and `rc` go on, only what is worse: that no sandbox runs, and layers and features that were
    /// there. So this passes where a pinned kernel cannot be had; without it that is a failure.
    #[arg(long, conflicts_with = "write")]
    or_newest: bool,
    /// Boot nothing: say which newer kernels there are, and print lines for xtask/kernels.txt.
    #[arg(long, conflicts_with_all = ["only", "quick", "series", "or_newest"])]
    propose: bool,
    /// Write the rows of docs/kernels.md, kernel by kernel, instead of comparing them; with
    /// --propose: xtask/kernels.txt.
    #[arg(long)]
    write: bool,
}

/// What `--only` calls the probe.
const PROBE: &str = "probe";

impl Options {
    fn part(&self) -> Part {
        match self.only.as_deref() {
            None => Part::All,
            Some(PROBE) => Part::Probe,
            Some(_) => Part::Tests,
        }
    }
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let pins = Pins::read(root)?;
    let cache = crate::target(root).join("kernels");
    fs::create_dir_all(&cache)?;
    // A relative path would be another's elsewhere: programs are started in folders of their own.
    let cache = cache.canonicalize()?;
    let _lock = locked(&cache)?;
    if options.propose {
        return propose::propose(root, &cache, pins, options.write);
    }
    let kernels = pins.named(&options.series)?;
    let qemu = packages::qemu(&cache)?;
    let wanted = Wanted {
        none: options.part() == Part::Probe,
        only: options.only.as_deref(),
        quick: options.quick,
    };
    let choice = choice::choose(root, &wanted)?;
    let matrix = Matrix {
        root,
        options,
        pins: &pins.all,
        initramfs: packed(&cache, &choice)?,
        choice,
        qemu,
        cache,
        quick_until: Instant::now() + QUICK_BOUND.saturating_mul(u32::try_from(kernels.len())?),
    };
    let mut wrong = Vec::new();
    for pin in kernels {
        let (begun, told) = (Instant::now(), wrong.len());
        println!("== {} ({} from {})", pin.name, pin.package, pin.suite);
        match matrix.boot(pin) {
            Ok(found) => wrong.extend(found),
            Err(failure) => wrong.push(format!("{}: {failure}", pin.name)),
        }
        // Those of the boots before are told by now.
        wrong[told..].iter().for_each(|wrong| println!("{wrong}"));
        println!("== {}: {} s", pin.name, begun.elapsed().as_secs());
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

struct Matrix<'a> {
    root: &'a Path,
    options: &'a Options,
    pins: &'a [Pin],
    cache: PathBuf,
    qemu: Qemu,
    choice: Choice,
    initramfs: PathBuf,
    /// When all boots of a quick run must have ended.
    quick_until: Instant,
}

impl Matrix<'_> {
    /// Boots one; gives what is wrong. Its row is written, or compared, if nothing is.
    fn boot(&self, pin: &Pin) -> Result<Vec<String>, Failure> {
        let (image, stand_in) = self.image(pin)?;
        let compared = Compared {
            quick: self.options.quick,
            booted: Booted::of(pin, stand_in.as_ref()),
        };
        let part = self.options.part();
        let findings = self.cache.join("findings");
        forget(&findings)?;
        let boot = Boot {
            image: &image,
            initramfs: &self.initramfs,
            inside: Inside {
                part,
                quick: self.options.quick,
                refused: pin.refused.is_some(),
            },
            findings: &findings,
            until: if self.options.quick {
                self.quick_until
            } else {
                Instant::now() + BOUND
            },
        };
        let facts = boot.run(&self.qemu)?;
        let booted = stand_in.as_ref().unwrap_or(pin);
        let expected = Expected {
            pin: booted,
            programs: self.choice.of_programs(pin.refused.is_some()),
            part,
        };
        let wrong = judge::judge(&expected, &facts);
        if !wrong.is_empty() {
            return Ok(wrong);
        }
        if part == Part::Tests {
            if self.options.write {
                self.add_missed(pin, &facts)?;
            }
            return Ok(Vec::new());
        }
        let mut found = Kernel::new(
            booted,
            self.qemu.version()?,
            self.choice.left_out(pin.refused.is_some()),
            &facts,
        )?;
        if part == Part::Probe {
            let kept = self.kept(pin)?;
            if self.options.write {
                kept.makes_a_row_with(&found.package, &found.qemu)?;
            }
            found = kept.renewed(found);
        }
        if self.options.write {
            self.keep(pin, found)?;
            return Ok(Vec::new());
        }
        self.differences(pin, &found, compared)
    }

    /// Some tests make no row by themselves.
    fn add_missed(&self, pin: &Pin, facts: &[Facts]) -> Result<(), Failure> {
        let mut kept = self.kept(pin)?;
        kept.makes_a_row_with(&pin.package, &self.qemu.version()?)?;
        for facts in facts {
            kept.add_missed(facts.user, facts.keys());
        }
        self.keep(pin, kept)
    }

    /// The row that what was found belongs to.
    fn kept(&self, pin: &Pin) -> Result<Kernel, Failure> {
        let kept = Rows::read(self.root)?.kernels.remove(&pin.name);
        Ok(kept.ok_or("there is no row that this belongs to: write all of it")?)
    }

    /// The pinned kernel, or, where that is gone and another will do, that one.
    fn image(&self, pin: &Pin) -> Result<(PathBuf, Option<Pin>), Failure> {
        let failed = match packages::image(&self.cache, pin) {
            Ok(image) => return Ok((image, None)),
            Err(failed) => failed,
        };
        // One that is there and does not unpack, say, is no reason to boot another.
        if !self.options.or_newest || !packages::is_gone(&self.cache, pin)? {
            return Err(failed);
        }
        println!("{failed}");
        let newest = propose::newest_of(&self.cache, pin)?;
        println!(
            "in place of {}: {} from {}; `cargo xtask kernels --propose` tells what to pin",
            pin.package, newest.package, newest.suite
        );
        Ok((packages::image(&self.cache, &newest)?, Some(newest)))
    }

    fn keep(&self, pin: &Pin, found: Kernel) -> Result<(), Failure> {
        // Read anew: others may have been written meanwhile.
        let mut rows = Rows::read(self.root)?;
        rows.kernels.insert(pin.name.clone(), found);
        // One that is no longer pinned has no place on the page.
        rows.kernels
            .retain(|name, _| self.pins.iter().any(|pin| pin.name == *name));
        rows.write(self.root)?;
        page::write(self.root, self.pins, &rows)
    }

    fn differences(
        &self,
        pin: &Pin,
        found: &Kernel,
        compared: Compared,
    ) -> Result<Vec<String>, Failure> {
        let rows = Rows::read(self.root)?;
        let part = match self.options.part() {
            Part::Probe => "--only probe ",
            _ => "",
        };
        let name = &pin.name;
        let advice = format!("if that is right: cargo xtask kernels --write {part}{name}");
        let Some(kept) = rows.kernels.get(&pin.name) else {
            return Ok(vec![format!(
                "{} has no {}; {advice}",
                page::PAGE,
                pin.name
            )]);
        };
        let mut wrong = kept.differences(found, compared);
        if !wrong.is_empty() {
            if kept.qemu != found.qemu {
                let (kept, found) = (&kept.qemu, &found.qemu);
                wrong.push(format!(
                    "this is QEMU {found}, the row was made with {kept}"
                ));
            }
            wrong.push(advice.clone());
        }
        if !page::is_current(self.root, self.pins, &rows) {
            let page = page::PAGE;
            wrong.push(format!(
                "{page} is not what its rows and the pins say; {advice}"
            ));
        }
        Ok(wrong
            .into_iter()
            .map(|line| format!("{}: {line}", pin.name))
            .collect())
    }
}

/// The tests with what they need, as a file.
fn packed(cache: &Path, choice: &Choice) -> Result<PathBuf, Failure> {
    let path = cache.join("initramfs.cpio");
    let archive = choice.packed()?;
    forget(&path)?;
    fs::write(&path, archive)?;
    Ok(path)
}

/// Removes what another run has left: written over, it would change in a copy of the folder that is
/// made of links, which another run may be booting from.
fn forget(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Keeps others out of the folder until it is closed: two runs would boot each other's tests, and
/// read each other's findings.
fn locked(cache: &Path) -> Result<File, Failure> {
    let lock = File::create(cache.join("lock"))?;
    lock.try_lock().map_err(|why| {
        let cache = cache.display();
        format!("{cache}: {why}; another run may be in it: wait, or set CARGO_TARGET_DIR")
    })?;
    Ok(lock)
}
