//! The newest kernel headers that can be had, and the test that compares our numbers with them:
//! `linux-raw/tests/headers/`, which `cargo test` runs with the system's own.
//!
//! They are Debian's package, the newest of all suites that the machine's mirror has. Nothing is
//! installed: it is unpacked under `target/headers/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::apt::{Apt, Offer, is_newer, once, release, series_of, unpack};
use crate::suite::{Built, build};

const PACKAGE: &str = "linux-libc-dev";

/// Where new kernels appear first, which is no longer the same everywhere. Mirrors lack some.
const SUITES: &[&str] = &[
    "experimental",
    "sid",
    "stable-backports",
    "trixie-backports",
    "forky-backports",
];

/// Names the folder of headers to the test.
const HEADERS: &str = "CELLWALL_KERNEL_HEADERS";

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let cache = crate::target(root).join("headers");
    fs::create_dir_all(&cache)?;
    // A relative path would be another's elsewhere: the test is started in a folder of its own.
    let cache = cache.canonicalize()?;
    let headers = newest_of_all(&cache)?;
    println!(
        "{PACKAGE} {} of {}",
        headers.offer.version, headers.offer.suite
    );
    let unpacked = headers.unpacked(&cache)?;
    let built = build(root, &crate::target(root), &["cellwall-linux-raw"], &[])?;
    let is_wanted = |program: &&Built| program.is_test && program.name == "headers";
    let test = built.iter().find(is_wanted);
    let test = test.ok_or("cellwall-linux-raw has no test `headers`")?;
    let ran = Command::new(&test.path)
        .args(["--nocapture", "--test-threads=1"])
        .env(HEADERS, unpacked.join("usr/include"))
        .current_dir(root.join("linux-raw"))
        .stderr(Stdio::inherit())
        .output()?;
    let said = String::from_utf8_lossy(&ran.stdout);
    print!("{said}");
    let version = &headers.offer.version;
    if !ran.status.success() {
        return Err(format!(
            "our numbers are not those of {PACKAGE} {version}: see above; where the kernel is right, \
             change linux-raw, and what is newer than a kernel goes to linux-raw/tests/headers/since.rs"
        )
        .into());
    }
    for part in COMPARED {
        let wanted = format!("agree with the headers of Linux {}", series_of(version));
        let has = |line: &str| line.contains(&format!("{part}: ")) && line.ends_with(&wanted);
        if !said.lines().any(has) {
            return Err(format!("the test does not say of {part} that they {wanted}").into());
        }
    }
    Ok(())
}

/// What the test compares, as it says itself.
const COMPARED: [&str; 3] = ["constants", "layouts", "libc"];

/// A package that can be had.
struct Headers {
    offer: Offer,
    apt: Apt,
}

impl Headers {
    /// The newest of a suite.
    fn of(suite: &str, cache: &Path) -> Result<Self, Failure> {
        let apt = Apt::new(&cache.join("apt").join(suite), &[suite])?;
        let offer = newest(apt.offers(&[PACKAGE])?, |offer| &offer.version)?;
        let offer = offer.ok_or_else(|| format!("no {PACKAGE}"))?;
        Ok(Self { offer, apt })
    }

    fn unpacked(&self, cache: &Path) -> Result<PathBuf, Failure> {
        once(&cache.join(&self.offer.version), |folder| {
            let package = format!("{PACKAGE}={}", self.offer.version);
            unpack(&self.apt.download(&package)?, folder)
        })
    }
}

/// The newest of all suites; says of each what it has, or why it was passed over.
fn newest_of_all(cache: &Path) -> Result<Headers, Failure> {
    let mut suites: Vec<String> = SUITES.iter().map(|suite| (*suite).to_owned()).collect();
    let own = format!("{}-backports", release()?);
    if !suites.contains(&own) {
        suites.push(own);
    }
    let mut all = Vec::new();
    for suite in suites {
        match Headers::of(&suite, cache) {
            Ok(headers) => {
                println!("{suite} has {}", headers.offer.version);
                all.push(headers);
            }
            Err(failure) => {
                let told = failure.to_string();
                println!(
                    "{suite} was not had: {}",
                    told.lines().next().unwrap_or_default()
                );
            }
        }
    }
    let newest = newest(all, |headers| &headers.offer.version)?;
    newest.ok_or_else(|| {
        format!(
            "no suite's {PACKAGE} can be had: give apt a source of this machine's own release \
             of Debian, whose mirror is asked for the other suites too, and a way to it"
        )
        .into()
    })
}

fn newest<T>(all: Vec<T>, version: fn(&T) -> &str) -> Result<Option<T>, Failure> {
    let mut newest: Option<T> = None;
    for one in all {
        let is_better = match &newest {
            Some(best) => is_newer(version(&one), version(best))?,
            None => true,
        };
        if is_better {
            newest = Some(one);
        }
    }
    Ok(newest)
}
