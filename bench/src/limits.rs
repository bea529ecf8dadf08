//! What the machine and the bare kernel need, within one process: nobody who isolates does the same
//! faster.
//!
//! A reset has two: writing zeroes now, or dropping the pages, which makes the next tenant fault.

use std::hint::{black_box, spin_loop};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use linux_raw::fd::{AsFd as _, OwnedFd};
use linux_raw::io;
use linux_raw::memfd;
use linux_raw::mm::Backing;
use linux_raw::uffd::{self, Features, Modes};

use crate::cpus::two_cpus;
use crate::figure::{Failure, Measure, Quantiles, Side, Topic, each, quantiles};
use crate::window::{PAGE, Window, file};

/// All of them.
pub const MEASURES: [Measure; 21] = [
    limit(Topic::FaultZero, "kernel, anonymous", || faults(anonymous)),
    limit(Topic::FaultZero, "kernel, memory file", || faults(absent)),
    limit(Topic::FaultZero, "UFFDIO_ZEROPAGE", || zeroes(1)),
    limit(Topic::FaultZero16, "UFFDIO_ZEROPAGE", || zeroes(16)),
    limit(Topic::FaultPresent, "kernel, memory file", || {
        faults(present)
    }),
    limit(Topic::FaultPresent, "UFFDIO_CONTINUE", || resumes(1)),
    limit(Topic::FaultPresent16, "UFFDIO_CONTINUE", || resumes(16)),
    limit(Topic::Hostcall, "cache-line ping-pong", ping_pong),
    limit(Topic::Read64, "memcpy", copies),
    limit(Topic::Write64, "memcpy", copies),
    limit(Topic::Reset16, "memset", || clears(16)),
    limit(Topic::Reset16, "PUNCH_HOLE", || punches(16)),
    limit(Topic::Reset256, "memset", || clears(256)),
    limit(Topic::Reset256, "PUNCH_HOLE", || punches(256)),
    limit(Topic::Reset4096, "memset", || clears(4096)),
    limit(Topic::Reset4096, "PUNCH_HOLE", || punches(4096)),
    limit(Topic::Instance, "mmap and one fault", mappings),
    limit(Topic::Code100KiB, "pwrite, fresh", || writes(100, false)),
    limit(Topic::Code100KiB, "pwrite, populated", || writes(100, true)),
    limit(Topic::Code1MiB, "pwrite, fresh", || writes(1024, false)),
    limit(Topic::Code1MiB, "pwrite, populated", || writes(1024, true)),
];

const fn limit(
    topic: Topic,
    how: &'static str,
    run: fn() -> Result<Quantiles, Failure>,
) -> Measure {
    Measure {
        topic,
        side: Side::Limit,
        how,
        run,
    }
}

/// Pages of a window whose pages are filled: 1 MiB, too small to become a huge page.
const PAGES: usize = 256;

/// Pages that one sample fills, where one takes little more than reading the clock.
const BATCH: usize = 16;

/// Windows that are filled.
const WINDOWS: usize = 100;

/// One touch of a page that the kernel fills or maps by itself.
fn faults(window: fn() -> Result<Window, Failure>) -> Result<Quantiles, Failure> {
    let mut samples = Vec::new();
    for _ in 0..WINDOWS {
        let window = window()?;
        for first in (0..PAGES).step_by(BATCH) {
            let start = Instant::now();
            window.touch(first..first + BATCH);
            samples.push(each(start, 16));
        }
    }
    quantiles(samples)
}

/// Memory of no file.
fn anonymous() -> Result<Window, Failure> {
    Ok(Window::map(PAGES, Backing::Anonymous)?)
}

/// A memory file of holes.
fn absent() -> Result<Window, Failure> {
    let file = file(PAGES)?;
    Ok(Window::map(PAGES, shared(&file))?)
}

/// A memory file that has all its pages, none of them in the page table.
fn present() -> Result<Window, Failure> {
    let file = populated(PAGES)?;
    Ok(Window::map(PAGES, shared(&file))?)
}

fn populated(pages: usize) -> Result<OwnedFd, Failure> {
    let file = file(pages)?;
    write_all(&file, &vec![1; pages * PAGE])?;
    Ok(file)
}

fn shared(file: &OwnedFd) -> Backing<'_> {
    Backing::Shared {
        fd: file.as_fd(),
        offset: 0,
    }
}

/// One call that fills so many missing pages of a memory file, for each page.
fn zeroes(pages_each: usize) -> Result<Quantiles, Failure> {
    calls(pages_each, Modes::MISSING, absent, Window::zero)
}

/// One call that maps so many pages which a memory file has, for each page.
fn resumes(pages_each: usize) -> Result<Quantiles, Failure> {
    calls(pages_each, Modes::MINOR, present, Window::resume)
}

fn calls(
    pages_each: usize,
    modes: Modes,
    window: fn() -> Result<Window, Failure>,
    fill: fn(&Window, &OwnedFd, &Range<usize>) -> Result<(), Failure>,
) -> Result<Quantiles, Failure> {
    let faults = uffd::userfaultfd()?;
    uffd::enable(&faults, Features::MISSING_SHMEM | Features::MINOR_SHMEM)?;
    let mut samples = Vec::new();
    for _ in 0..WINDOWS {
        let window = window()?;
        window.register(&faults, modes)?;
        for first in (0..PAGES).step_by(BATCH) {
            let start = Instant::now();
            for call in (first..first + BATCH).step_by(pages_each) {
                fill(&window, &faults, &(call..call + pages_each))?;
            }
            samples.push(each(start, 16));
        }
    }
    quantiles(samples)
}

/// A cache line from one CPU to another and back.
fn ping_pong() -> Result<Quantiles, Failure> {
    const ROUNDS: u32 = 1000;
    const SAMPLES: usize = 300;
    #[repr(align(128))]
    struct Line(AtomicU64);
    let (here, there) = two_cpus()?;
    let line = Line(AtomicU64::new(0));
    let mut samples = Vec::new();
    thread::scope(|scope| -> Result<(), Failure> {
        let other = scope.spawn(|| {
            let pinned = there.pin();
            let mut ping = wait(&line.0, 0);
            while ping != u64::MAX {
                line.0.store(ping + 1, Ordering::Release);
                ping = wait(&line.0, ping + 1);
            }
            pinned
        });
        let pinned = here.pin();
        // One exchange before the clock runs: the other thread has to start.
        line.0.store(1, Ordering::Release);
        let mut pong = wait(&line.0, 1);
        for _ in 0..SAMPLES {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                line.0.store(pong + 1, Ordering::Release);
                pong = wait(&line.0, pong + 1);
            }
            samples.push(each(start, ROUNDS));
        }
        line.0.store(u64::MAX, Ordering::Release);
        pinned?;
        other.join().map_err(|_| "the other thread panicked")??;
        Ok(())
    })?;
    quantiles(samples)
}

/// Spins until the word is another one. Acquire pairs with the Release of who wrote it.
fn wait(word: &AtomicU64, known: u64) -> u64 {
    loop {
        let now = word.load(Ordering::Acquire);
        if now != known {
            return now;
        }
        spin_loop();
    }
}

/// 64 bytes from one place in the first cache to another.
fn copies() -> Result<Quantiles, Failure> {
    const COPIES: u32 = 10_000;
    let (source, mut target) = ([7u8; 64], [0u8; 64]);
    let mut samples = Vec::new();
    for _ in 0..1000 {
        let start = Instant::now();
        for _ in 0..COPIES {
            black_box(&mut target).copy_from_slice(black_box(&source));
        }
        samples.push(each(start, COPIES));
    }
    quantiles(samples)
}

/// Zeroes over pages of a memory file which this process has in its page table.
fn clears(pages: usize) -> Result<Quantiles, Failure> {
    let file = file(pages)?;
    let window = Window::map(pages, shared(&file))?;
    let mut samples = Vec::new();
    for _ in 0..300 {
        window.touch(0..pages);
        let start = Instant::now();
        window.clear(pages);
        samples.push(each(start, 1));
    }
    quantiles(samples)
}

/// So many pages of a memory file, and of this process's page table, dropped by one call.
fn punches(pages: usize) -> Result<Quantiles, Failure> {
    let file = file(pages)?;
    let window = Window::map(pages, shared(&file))?;
    let mut samples = Vec::new();
    for _ in 0..100 {
        window.touch(0..pages);
        let start = Instant::now();
        memfd::punch_hole(&file, 0, u64::try_from(pages * PAGE)?)?;
        samples.push(each(start, 1));
    }
    quantiles(samples)
}

/// New memory, of which one page is touched.
fn mappings() -> Result<Quantiles, Failure> {
    let mut samples = Vec::new();
    for _ in 0..1000 {
        let start = Instant::now();
        let window = Window::map((64 << 20) / PAGE, Backing::Anonymous)?;
        window.touch(0..1);
        samples.push(each(start, 1));
    }
    quantiles(samples)
}

/// One write of so many KiB into a memory file that has the pages already, or none of them.
fn writes(kibibytes: usize, populate: bool) -> Result<Quantiles, Failure> {
    let bytes = kibibytes << 10;
    let pages = bytes.div_ceil(PAGE);
    let code = vec![0xcc; bytes];
    let kept = populated(pages)?;
    let mut samples = Vec::new();
    for _ in 0..300 {
        let fresh = file(pages)?;
        let target = if populate { &kept } else { &fresh };
        let start = Instant::now();
        write_all(target, &code)?;
        samples.push(each(start, 1));
    }
    quantiles(samples)
}

/// From the start of the file, by one call.
fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Failure> {
    match io::pwrite(file, bytes, 0) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(written) => Err(format!("{written} of {} bytes were written", bytes.len()).into()),
        Err(errno) => Err(errno.into()),
    }
}
