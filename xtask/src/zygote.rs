//! Builds the zygote's image and checks that it is what vmctx and the threat model say.

use std::fs;
use std::path::{Path, PathBuf};

use freestanding::check::{self, Expect};
use freestanding::{Link, Request};
use object::{Object, ObjectSymbol};
use sha2::{Digest, Sha256};
use vmctx::map;

use crate::{Failure, target};

/// Symbols that must be where vmctx says: guests are generated with these addresses.
const FIXED_SYMBOLS: [(&str, u64); 2] = [
    ("cellwall_hostcall", map::HOSTCALL),
    ("cellwall_finish", map::FINISH),
];

pub(crate) fn run(root: &Path, check: bool) -> Result<(), Failure> {
    let work = target(root).join("zygote-image");
    let image = fs::read(build(root, &work.join("stripped"), true)?)?;
    let report = check::fixed(&image, &expectations())?;
    println!("{report}");
    println!("sha256 {}", hex(&Sha256::digest(&image)));
    if check {
        check_symbols(&fs::read(build(root, &work.join("symbols"), false)?)?)?;
        check_reproducible(root, &work, &image)?;
    }
    Ok(())
}

fn build(workspace: &Path, target_dir: &Path, strip: bool) -> Result<PathBuf, Failure> {
    let script = workspace.join("link.ld");
    let images = freestanding::build(&Request {
        workspace,
        package: "cellwall-zygote",
        bins: &["zygote"],
        target_dir,
        link: Link::Fixed { script: &script },
        strip,
    })?;
    images
        .into_iter()
        .next()
        .ok_or_else(|| "no image was built".into())
}

fn expectations() -> Expect {
    Expect {
        entry: map::IMAGE,
        image: map::IMAGE,
        bytes_max: map::IMAGE_BYTES_MAX,
    }
}

fn check_symbols(image: &[u8]) -> Result<(), Failure> {
    let file = object::File::parse(image)?;
    for (name, address) in FIXED_SYMBOLS {
        let symbol = file
            .symbol_by_name(name)
            .ok_or(format!("the image has no symbol {name}"))?;
        if symbol.address() != address {
            let found = symbol.address();
            return Err(format!("{name} is at {found:#x}, vmctx says {address:#x}").into());
        }
        println!("{name} is at {address:#x}, as vmctx says");
    }
    Ok(())
}

/// Builds the same sources in another folder and compares the bytes.
fn check_reproducible(root: &Path, work: &Path, image: &[u8]) -> Result<(), Failure> {
    let copy = work.join("elsewhere/a folder with another name");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    copy_sources(root, &copy)?;
    let other = fs::read(build(&copy, &work.join("elsewhere/target"), true)?)?;
    if other != image {
        let (ours, theirs) = (hex(&Sha256::digest(image)), hex(&Sha256::digest(&other)));
        return Err(format!("another folder gives other bytes: {ours} and {theirs}").into());
    }
    println!("another folder gives the same {} bytes", other.len());
    Ok(())
}

/// Copies the workspace without what builds and version control put there.
fn copy_sources(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            copy_sources(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
