//! The address space: what may become of mappings, should a call that changes them get through.

use std::fs;

use cellwall::abi::PAGE_BYTES;
use cellwall::{Config, Errno, Layer};
use linux_raw::sys::general as sys;

use crate::attack::Attack;
use crate::worker::{Attempt, SPARE_PAGE, Stop, Worker, seen};

const READ: u64 = sys::PROT_READ as u64;
const WRITE: u64 = sys::PROT_WRITE as u64;
const EXECUTE: u64 = sys::PROT_EXEC as u64;
const ANONYMOUS: u64 = (sys::MAP_PRIVATE | sys::MAP_ANONYMOUS) as u64;
const NO_FILE: u64 = u64::MAX;

const NO_CODE: Stop = Stop::Refused(Errno::EACCES);
const SEALED: Stop = Stop::Refused(Errno::EPERM);

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new(
        Layer::DenyWriteExecute,
        "makes its data code",
        |worker| protect(worker, SPARE_PAGE, READ | EXECUTE),
        NO_CODE,
    ),
    Attack::new(
        Layer::DenyWriteExecute,
        "maps memory that is both",
        |worker| map(worker, READ | WRITE | EXECUTE).map(drop),
        NO_CODE,
    ),
    Attack::new(
        Layer::DenyWriteExecute,
        "maps memory, fills it and makes it code",
        |worker| {
            let page = map(worker, READ | WRITE)?;
            worker.store(page, 0xc3)?;
            protect(worker, page, READ | EXECUTE)
        },
        NO_CODE,
    ),
    Attack::new(Layer::Mseal, "unmaps its data", unmap, SEALED),
    Attack::new(
        Layer::Mseal,
        "makes its data read-only",
        |worker| protect(worker, SPARE_PAGE, READ),
        SEALED,
    ),
    Attack::new(Layer::Mseal, "moves its data", move_away, SEALED),
    Attack::new(Layer::Mseal, "maps over its data", map_over, SEALED),
    Attack::new(
        Layer::KernelMappings,
        "reads the kernel's own code and data",
        read_vdso,
        Stop::NoEffect,
    ),
];

pub(crate) fn protect(worker: &mut Worker, page: u64, protection: u64) -> Attempt {
    worker.call(sys::__NR_mprotect, &[page, PAGE_BYTES, protection])?;
    Ok(())
}

/// A page of new memory.
fn map(worker: &mut Worker, protection: u64) -> Result<u64, Stop> {
    let args = [0, PAGE_BYTES, protection, ANONYMOUS, NO_FILE, 0];
    worker.call(sys::__NR_mmap, &args)
}

fn unmap(worker: &mut Worker) -> Attempt {
    worker.call(sys::__NR_munmap, &[SPARE_PAGE, PAGE_BYTES])?;
    Ok(())
}

fn move_away(worker: &mut Worker) -> Attempt {
    let may_move = sys::MREMAP_MAYMOVE.into();
    let args = [SPARE_PAGE, PAGE_BYTES, 2 * PAGE_BYTES, may_move];
    worker.call(sys::__NR_mremap, &args)?;
    Ok(())
}

fn map_over(worker: &mut Worker) -> Attempt {
    let flags = ANONYMOUS | u64::from(sys::MAP_FIXED);
    let args = [SPARE_PAGE, PAGE_BYTES, READ | WRITE, flags, NO_FILE, 0];
    worker.call(sys::__NR_mmap, &args)?;
    Ok(())
}

pub(crate) fn mappings(worker: &Worker) -> String {
    let path = format!("/proc/{}/maps", worker.process_id());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first address and the name of each mapping.
fn starts(maps: &str) -> impl Iterator<Item = (u64, &str)> {
    maps.lines().map(|line| {
        let start = line.split('-').next().unwrap_or_default();
        let name = line.split_whitespace().nth(5).unwrap_or_default();
        (u64::from_str_radix(start, 16).expect("an address"), name)
    })
}

fn read_vdso(worker: &mut Worker) -> Attempt {
    const ELF: u64 = u32::from_le_bytes(*b"\x7fELF") as u64;
    let maps = mappings(worker);
    let vdso = starts(&maps).find(|(_, name)| *name == "[vdso]");
    let Some((address, _)) = vdso else {
        let kernel_s = ["[stack]", "[vvar]", "[vvar_vclock]", "[heap]", "[uprobes]"];
        let others = starts(&maps).find(|(_, name)| kernel_s.contains(name));
        assert_eq!(others, None, "{maps}");
        return Err(Stop::NoEffect);
    };
    let word = worker.load(address)?;
    seen(word & 0xffff_ffff == ELF)
}

/// Everything that the zygote mapped is sealed, its own image and stacks included: the kernel
/// refuses to unmap any of it.
#[test]
fn no_mapping_is_left_out() {
    let kept = [Layer::Mseal, Layer::KernelMappings];
    let mut worker = Worker::start(&Config::default(), &kept).expect("a worker");
    if let cellwall::Standing::Absent(errno) = worker.layers().standing(Layer::Mseal) {
        return absence::absent("mseal", errno);
    }
    let maps = mappings(&worker);
    let ours = starts(&maps).filter(|(_, name)| *name != "[vsyscall]");
    let mut mappings = 0;
    for (start, _) in ours {
        let answer = worker.call(sys::__NR_munmap, &[start, PAGE_BYTES]);
        assert_eq!(answer, Err(SEALED), "{start:#x}\n{maps}");
        mappings += 1;
    }
    assert!(mappings > 8, "{maps}");
}
