//! Builds the zygote's image and checks that it is what vmctx and the threat model say.

use std::fs;
use std::path::{Path, PathBuf};

use freestanding::check::{self, Expect};
use freestanding::{Link, Request};
use object::{Object, ObjectSymbol};
use sha2::{Digest, Sha256};
use vmctx::map;

use crate::{Failure, rules, target};

/// Symbols that must be where vmctx says: guests are generated with these addresses.
const FIXED_SYMBOLS: [(&str, u64); 3] = [
    ("cellwall_hostcall", map::HOSTCALL),
    ("cellwall_finish", map::FINISH),
    ("cellwall_out_of_gas", map::OUT_OF_GAS),
];

/// The condition that a zygote can leave out layers under, and the mark that it then carries.
pub(crate) const SWITCH: &str = "cellwall_layer_switch";

pub(crate) fn run(root: &Path, check: bool) -> Result<(), Failure> {
    let work = target(root).join("zygote-image");
    let image = fs::read(build(root, &work.join("stripped"), true, &[])?)?;
    let report = check::fixed(&image, &expectations())?;
    println!("{report}");
    println!("sha256 {}", hex(&Sha256::digest(&image)));
    if check {
        let with_symbols = fs::read(build(root, &work.join("symbols"), false, &[])?)?;
        check_symbols(&with_symbols)?;
        rules::check(&with_symbols)?;
        check_switch(root, &work, &image)?;
        check_reproducible(root, &work, &image)?;
    }
    Ok(())
}

fn build(
    workspace: &Path,
    target_dir: &Path,
    strip: bool,
    cfgs: &[&str],
) -> Result<PathBuf, Failure> {
    let script = workspace.join("link.ld");
    let images = freestanding::build(&Request {
        workspace,
        package: "cellwall-zygote",
        bins: &["zygote"],
        target_dir,
        link: Link::Fixed { script: &script },
        strip,
        cfgs,
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

/// Nobody can leave out a layer of what is shipped: the mark of a zygote that could is not there.
/// It is in the one of the layer tests, or the look would prove nothing.
fn check_switch(root: &Path, work: &Path, image: &[u8]) -> Result<(), Failure> {
    let switched = fs::read(build(root, &work.join("switched"), true, &[SWITCH])?)?;
    let has_mark = |image: &[u8]| {
        image
            .windows(SWITCH.len())
            .any(|at| at == SWITCH.as_bytes())
    };
    if !has_mark(&switched) {
        return Err("the layer tests' zygote has no mark".into());
    }
    if has_mark(image) {
        return Err("the image can leave out layers: it is the layer tests'".into());
    }
    println!("the image has no switch that leaves out layers");
    Ok(())
}

/// Builds the same sources in another folder and compares the bytes.
fn check_reproducible(root: &Path, work: &Path, image: &[u8]) -> Result<(), Failure> {
    let copy = work.join("elsewhere/a folder with another name");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    copy_sources(root, &copy)?;
    let other = fs::read(build(&copy, &work.join("elsewhere/target"), true, &[])?)?;
    if other != image {
        let (ours, theirs) = (hex(&Sha256::digest(image)), hex(&Sha256::digest(&other)));
        return Err(format!("another folder gives other bytes: {ours} and {theirs}").into());
    }
    println!("another folder gives the same {} bytes", other.len());
    Ok(())
}

/// Copies the workspace without what builds and version control put there.
pub(crate) fn copy_sources(from: &Path, to: &Path) -> Result<(), Failure> {
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
