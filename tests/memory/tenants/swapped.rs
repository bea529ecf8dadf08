#![expect(unsafe_code, reason = "asks the kernel to page another process out")]
//! Guest memory in swap space: it is found, counted and wiped as if it were in memory.
//!
//! The test swaps to a file of its own where nobody swaps yet, in a process of its own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use cellwall::{Instance, Interrupt, Protection};
use linux_raw::nr::Nr;
use linux_raw::pidfd::{PidfdFlags, pidfd_open};
use linux_raw::process::Pid;
use linux_raw::sys::general;
use linux_raw::{AsFd as _, arch};
use tempfile::TempDir;
use vmctx::map::Span;

use super::guest::{self, Program, run};
use super::traces::Traces;
use super::{
    Amount, NOWHERE, PATTERN, WIDE, WIDE_BYTES, engines, fill_module, fill_worker, look, module,
};
use crate::harness::{alone, proc};

const PAGE: u64 = 0x1000;
const AREA_BYTES: u64 = 96 << 20;
/// What must be in swap space of what a tenant wrote, in KiB: most of it.
const SWAPPED_KIB: u64 = 24 << 10;

/// Swap space: somebody's, or a file of ours until it is dropped. One test at a time has any.
struct Area {
    file: Option<PathBuf>,
    _folder: Option<TempDir>,
    _lock: File,
}

/// Swaps to a file where nobody swaps yet, or says why not.
fn swap() -> Result<Area, String> {
    let lock = File::open("/proc/swaps").map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let mut area = Area {
        file: None,
        _folder: None,
        _lock: lock,
    };
    let areas = fs::read_to_string("/proc/swaps").map_err(|error| error.to_string())?;
    if areas.lines().count() > 1 {
        return Ok(area);
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("swap");
    let zeros = vec![0; usize::try_from(AREA_BYTES).expect("a length")];
    fs::write(&file, zeros).map_err(|error| error.to_string())?;
    let own = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&file, own).map_err(|error| error.to_string())?;
    for program in ["mkswap", "swapon"] {
        let run = Command::new(program).arg(&file).output();
        let run = run.map_err(|error| format!("{program}: {error}"))?;
        if !run.status.success() {
            return Err(String::from_utf8_lossy(&run.stderr).trim().to_owned());
        }
    }
    area.file = Some(file);
    area._folder = Some(folder);
    Ok(area)
}

impl Drop for Area {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let run = Command::new("swapoff").arg(file).status();
            assert!(run.is_ok_and(|status| status.success()) || std::thread::panicking());
        }
    }
}

/// Has the kernel write these pages of a worker's to swap space, as far as nobody else maps them
/// (process_madvise(2), since Linux 5.10). How much is there now, in KiB.
fn page_out(instance: &Instance, span: &Span) -> u64 {
    let worker = i32::try_from(instance.process_id()).expect("a number");
    let worker = Pid::from_raw(worker.cast_unsigned()).expect("a process");
    let worker = pidfd_open(worker, PidfdFlags::empty()).expect("a pidfd");
    let pieces = [span.start, span.end - span.start];
    let call = Nr::from_raw(general::__NR_process_madvise);
    // SAFETY: the kernel reads one iovec, which has the layout of two words; the advice changes no
    // contents.
    let advised = unsafe {
        arch::syscall5(
            call,
            worker.as_fd().into(),
            pieces.as_ptr().into(),
            1u32.into(),
            general::MADV_PAGEOUT.into(),
            0u32.into(),
        )
    };
    advised.done().expect("process_madvise");
    swapped_kib(instance)
}

fn swapped_kib(instance: &Instance) -> u64 {
    let smaps = proc(instance, "smaps");
    let sizes = smaps.lines().filter_map(|line| line.strip_prefix("Swap:"));
    let kib = |size: &str| -> u64 {
        let number = size.trim().trim_end_matches(" kB");
        number.parse().expect("a size")
    };
    sizes.map(kib).sum()
}

/// Its worker's pages hold it where a guest that looks for it has faulted.
fn is_in_memory_file(instance: &Instance) -> bool {
    let found = Traces::of(instance).found(PATTERN);
    found.iter().any(|(name, _)| name == "cellwall-memory")
}

#[test]
fn nothing_is_left_in_swap_space() {
    alone(
        "memory::tenants::swapped::nothing_is_left_in_swap_space",
        || {
            let _area = match swap() {
                Ok(area) => area,
                Err(why) => return absence::absent("swap", why),
            };
            for engine in engines() {
                let module = module(&engine);
                for restores in [false, true] {
                    let mut instance = engine.instantiate(&module).expect("an instance");
                    let clean = instance.snapshot().expect("a snapshot");
                    fill_module(&mut instance, Amount::Scattered);
                    fill_worker(&mut instance, super::End::Trap);
                    let wide = WIDE..WIDE + WIDE_BYTES;
                    let resident = instance.memory_stats().expect("stats").resident;
                    let swapped = page_out(&instance, &wide);
                    assert!(swapped >= SWAPPED_KIB, "{swapped} KiB in swap space");
                    // It is the guest's still, and takes what it took.
                    assert_eq!(instance.memory_stats().expect("stats").resident, resident);
                    // The host finds it there.
                    assert_eq!(
                        instance.load::<u64>(WIDE + 2 * PAGE).expect("a word"),
                        PATTERN
                    );
                    let kept = instance.snapshot().expect("a snapshot");
                    assert!(kept.bytes() >= SWAPPED_KIB << 10);

                    page_out(&instance, &wide);
                    let what = format!("swapped, restores: {restores}");
                    if restores {
                        instance.restore(&clean).expect("a restore");
                    } else {
                        instance.reset().expect("a reset");
                    }
                    look(&mut instance, &engine, &what);
                    // Snapshots are not of what happened to be in memory.
                    instance.restore(&kept).expect("a restore");
                    let found = guest::search(&mut instance, &wide);
                    assert_eq!(found, WIDE_BYTES / 8 / 2, "{what}");
                }
            }
        },
    );
}

/// Pages that the host put there, some of them read-only, come back as they were.
#[test]
fn mapped_pages_come_back_from_swap_space() {
    alone(
        "memory::tenants::swapped::mapped_pages_come_back_from_swap_space",
        || {
            let _area = match swap() {
                Ok(area) => area,
                Err(why) => return absence::absent("swap", why),
            };
            for engine in engines().iter().filter(|engine| engine.can_change_maps()) {
                let module = module(engine);
                let mut instance = engine.instantiate(&module).expect("an instance");
                let bytes = 512 * PAGE;
                let both = Protection::ReadWrite;
                instance.map_zero(NOWHERE, bytes, both).expect("pages");
                let span = NOWHERE..NOWHERE + bytes;
                guest::fill(&mut instance, &span);
                let half = NOWHERE..NOWHERE + bytes / 2;
                instance
                    .protect(NOWHERE, bytes / 2, Protection::Read)
                    .expect("read-only");
                assert!(page_out(&instance, &span) >= bytes / 2 / 1024);
                let written = run(&mut instance, Program::Write, &[NOWHERE + PAGE, 1]);
                assert!(matches!(written, Interrupt::Trap(_)), "{written}");
                assert_eq!(guest::search(&mut instance, &span), bytes / 8);
                let written = run(&mut instance, Program::Write, &[NOWHERE + PAGE, 1]);
                assert!(matches!(written, Interrupt::Trap(_)), "{written}");
                // Out once more, then hidden, shown, taken away.
                page_out(&instance, &span);
                instance
                    .protect(NOWHERE, bytes, Protection::None)
                    .expect("hidden");
                assert!(!is_in_memory_file(&instance));
                instance.protect(NOWHERE, bytes, both).expect("shown");
                page_out(&instance, &span);
                assert_eq!(guest::search(&mut instance, &half), bytes / 2 / 8);
                page_out(&instance, &span);
                instance.unmap(NOWHERE, bytes).expect("unmapped");
                assert!(!is_in_memory_file(&instance));
                instance.map_zero(NOWHERE, bytes, both).expect("pages");
                assert_eq!(guest::search(&mut instance, &span), 0);
            }
        },
    );
}
