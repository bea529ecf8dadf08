//! Memory, within one process.
//!
//! A reset has two limits: writing zeroes now, or dropping the pages, which makes the next tenant
//! fault.

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use linux_raw::fd::{AsFd as _, OwnedFd};
use linux_raw::io;
use linux_raw::memfd;
use linux_raw::mm::Backing;
use linux_raw::uffd::{self, Features, Modes};

use crate::measure::{Failure, Sampler, batch, each};
use crate::window::{PAGE, Window, file};

/// Pages of a window whose pages are filled: 1 MiB, too small to become a huge page.
const PAGES: usize = 256;

/// Pages that one sample fills, where one takes little more than reading the clock.
const BATCH: usize = 16;

/// One touch of a page that the kernel fills or maps by itself.
pub(crate) fn faults(window: fn() -> Result<Window, Failure>) -> Result<Sampler, Failure> {
    Ok(Box::new(move || {
        let window = window()?;
        let mut samples = Vec::new();
        for first in (0..PAGES).step_by(BATCH) {
            let start = Instant::now();
            window.touch(first..first + BATCH);
            samples.push(each(start, 16));
        }
        Ok(samples)
    }))
}

/// A memory file of holes.
pub(crate) fn absent() -> Result<Window, Failure> {
    let file = file(PAGES)?;
    Ok(Window::map(PAGES, shared(&file))?)
}

/// A memory file that has all its pages, none of them in the page table.
pub(crate) fn present() -> Result<Window, Failure> {
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
pub(crate) fn zeroes(pages_each: usize) -> Result<Sampler, Failure> {
    calls(pages_each, Modes::MISSING, absent, Window::zero)
}

/// One call that maps so many pages which a memory file has, for each page.
pub(crate) fn resumes(pages_each: usize) -> Result<Sampler, Failure> {
    calls(pages_each, Modes::MINOR, present, Window::resume)
}

fn calls(
    pages_each: usize,
    modes: Modes,
    window: fn() -> Result<Window, Failure>,
    fill: fn(&Window, &OwnedFd, &Range<usize>) -> Result<(), Failure>,
) -> Result<Sampler, Failure> {
    let faults = uffd::userfaultfd()?;
    uffd::enable(&faults, Features::MISSING_SHMEM | Features::MINOR_SHMEM)?;
    Ok(Box::new(move || {
        let window = window()?;
        window.register(&faults, modes)?;
        let mut samples = Vec::new();
        for first in (0..PAGES).step_by(BATCH) {
            let start = Instant::now();
            for call in (first..first + BATCH).step_by(pages_each) {
                fill(&window, &faults, &(call..call + pages_each))?;
            }
            samples.push(each(start, 16));
        }
        Ok(samples)
    }))
}

/// 64 bytes from one place in the first cache to another.
pub(crate) fn copies() -> Result<Sampler, Failure> {
    const COPIES: u32 = 10_000;
    let (source, mut target) = ([7u8; 64], [0u8; 64]);
    Ok(Box::new(move || {
        batch(10, || {
            let start = Instant::now();
            for _ in 0..COPIES {
                black_box(&mut target).copy_from_slice(black_box(&source));
            }
            Ok(each(start, COPIES))
        })
    }))
}

/// Zeroes over pages of a memory file which this process has in its page table.
pub(crate) fn clears(pages: usize) -> Result<Sampler, Failure> {
    let file = file(pages)?;
    let window = Window::map(pages, shared(&file))?;
    Ok(Box::new(move || {
        batch(10, || {
            window.touch(0..pages);
            let start = Instant::now();
            window.clear(pages);
            Ok(each(start, 1))
        })
    }))
}

/// So many pages of a memory file, and of this process's page table, dropped by one call.
pub(crate) fn punches(pages: usize) -> Result<Sampler, Failure> {
    let file = file(pages)?;
    let window = Window::map(pages, shared(&file))?;
    Ok(Box::new(move || {
        batch(5, || {
            window.touch(0..pages);
            let start = Instant::now();
            memfd::punch_hole(&file, 0, u64::try_from(pages * PAGE)?)?;
            Ok(each(start, 1))
        })
    }))
}

/// New memory, of which one page is touched.
pub(crate) fn mappings() -> Result<Sampler, Failure> {
    Ok(Box::new(move || {
        batch(50, || {
            let start = Instant::now();
            let window = Window::map((64 << 20) / PAGE, Backing::Anonymous)?;
            window.touch(0..1);
            Ok(each(start, 1))
        })
    }))
}

/// One write of so many KiB into a memory file that has the pages already, or none of them.
pub(crate) fn writes(kibibytes: usize, populate: bool) -> Result<Sampler, Failure> {
    let bytes = kibibytes << 10;
    let pages = bytes.div_ceil(PAGE);
    let code = vec![0xcc; bytes];
    let kept = populated(pages)?;
    Ok(Box::new(move || {
        batch(10, || {
            let fresh = file(pages)?;
            let target = if populate { &kept } else { &fresh };
            let start = Instant::now();
            write_all(target, &code)?;
            Ok(each(start, 1))
        })
    }))
}

/// From the start of the file, by one call.
fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Failure> {
    match io::pwrite(file, bytes, 0) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(written) => Err(format!("{written} of {} bytes were written", bytes.len()).into()),
        Err(errno) => Err(errno.into()),
    }
}
