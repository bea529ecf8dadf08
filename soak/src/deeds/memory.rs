//! Guest memory that the host runs: page faults, maps, heaps, snapshots, code.

use cellwall::{
    Access, Error, Instance, Interrupt, PageFault, Paged, Protection, Template, TrapKind,
};

use crate::guests::{self, Entry};
use crate::lands::{DATA, FREE, FREE_BYTES, HEAP, HEAP_BYTES, PAGE, WINDOW, WINDOW_BYTES};
use crate::tenant::{Done, Stop, Tenant, wrong};
use crate::thread::Hand;

/// Where something may be mapped, for so many pages.
fn somewhere(hand: &Hand<'_>, pages: u64) -> u64 {
    FREE + (hand.upto(FREE_BYTES / PAGE - pages) - 1) * PAGE
}

/// What a page that the pager answers with has in each word.
fn word_of(page: u64) -> u64 {
    page.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn filled(page: u64) -> Vec<u8> {
    let words = usize::try_from(PAGE / 8).unwrap_or(0);
    word_of(page).to_le_bytes().repeat(words)
}

/// Zeros, up to sixteen pages at once, on even pages; a pattern on odd ones.
fn pager(fault: &PageFault, instance: &mut Instance) -> Result<Paged, Error> {
    let page = fault.page();
    if page / PAGE % 2 == 1 {
        instance.map_data(page, &filled(page), Protection::ReadWrite)?;
    } else {
        instance.map_zero(page, PAGE, Protection::ReadWrite)?;
    }
    Ok(Paged::Retry)
}

pub(crate) fn faults<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::new(hand, &hand.site().modules.paged)?;
    let pages = hand.upto(40);
    let start = somewhere(hand, pages);
    let has_pager = hand.is_tails();
    if has_pager {
        tenant.instance.set_pager(pager);
    }
    tenant.order(Entry::Sum, &[start, pages, PAGE])?;
    let sum = loop {
        match tenant.run()? {
            Interrupt::Finished(sum) => break sum,
            Interrupt::PageFault(fault) if !has_pager => {
                tenant.attempt("pager", |instance| pager(&fault, instance))?;
            }
            Interrupt::OutOfMemory(_) if has_pager && tenant.site.traits.bytes > 0 => {
                return Err(Stop::Refused("by the engine's memory limit"));
            }
            other => return wrong(format!("{other}, of a guest that reads pages")),
        }
    };
    let all = (0..pages).map(|number| start + number * PAGE);
    let odd = all.filter(|page| page / PAGE % 2 == 1).map(word_of);
    let expected = odd.fold(0, u64::wrapping_add);
    tenant.same("the sum of the pages", sum, expected)?;
    if has_pager {
        return Ok(());
    }
    // One that is refused is a trap.
    tenant.order(Entry::Swap, &[FREE - PAGE, 1])?;
    match tenant.run()? {
        Interrupt::PageFault(fault) if fault.access == Access::Write => {}
        other => return wrong(format!("{other}, not a fault")),
    }
    let trap = tenant.attempt("refuse", Instance::refuse_fault)?;
    match trap.address {
        Some(address) if address == FREE - PAGE => Ok(()),
        _ => wrong(format!("{trap}, for what was refused")),
    }
}

/// Whether a touch traps.
fn traps_at(tenant: &mut Tenant<'_>, entry: Entry, address: u64) -> Done {
    tenant.order(entry, &[address, 1, 8])?;
    match tenant.run()? {
        Interrupt::Trap(trap) if trap.kind == TrapKind::Memory && trap.address == Some(address) => {
            Ok(())
        }
        other => wrong(format!("{other}, not a trap at {address:#x}")),
    }
}

pub(crate) fn maps<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    let pages = hand.upto(24);
    let (start, bytes) = (somewhere(hand, pages), pages * PAGE);
    let contents = filled(start).repeat(usize::try_from(pages).unwrap_or(0));
    let words = bytes / 8;
    let mut sum = word_of(start).wrapping_mul(words);
    traps_at(&mut tenant, Entry::Look, start)?;
    match hand.random(3) {
        0 => {
            tenant.attempt("map_zero", |instance| {
                instance.map_zero(start, bytes, Protection::Read)
            })?;
            sum = 0;
        }
        1 => tenant.attempt("map_data", |instance| {
            instance.map_data(start, &contents, Protection::Read)
        })?,
        _ => {
            let template = Template::new(&tenant.site.engine, &contents)
                .map_err(|error| Stop::Wrong(error.to_string()))?;
            tenant.attempt("map_template", |instance| {
                instance.map_template(start, &template, Protection::Read)
            })?;
        }
    }
    let args = [start, words, 8];
    tenant.expect(Entry::Sum, &args, sum)?;
    let one = start + (hand.upto(pages) - 1) * PAGE;
    traps_at(&mut tenant, Entry::Swap, one)?;
    protect(&mut tenant, one, Protection::None)?;
    traps_at(&mut tenant, Entry::Sum, one)?;
    protect(&mut tenant, one, Protection::ReadWrite)?;
    // It was kept while nobody could see it.
    tenant.expect(Entry::Sum, &args, sum)?;
    let word = hand.word();
    let old = tenant.value(Entry::Swap, &[one, word])?;
    sum = sum.wrapping_sub(old).wrapping_add(word);
    tenant.expect(Entry::Sum, &args, sum)?;
    tenant.attempt("unmap", |instance| instance.unmap(one, PAGE))?;
    traps_at(&mut tenant, Entry::Look, one)
}

fn protect(tenant: &mut Tenant<'_>, page: u64, to: Protection) -> Done {
    tenant.attempt("protect", |instance| instance.protect(page, PAGE, to))
}

/// The most that a heap grows at once, and how often.
const GROWTH_MAX: u64 = 4 << 20;

pub(crate) fn heaps<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    let mut end = HEAP;
    traps_at(&mut tenant, Entry::Look, HEAP)?;
    for _ in 0..hand.upto(4) {
        let bytes = hand.upto(GROWTH_MAX).min(HEAP + HEAP_BYTES - end);
        let grown = tenant.attempt("grow_heap", |instance| {
            instance.grow_heap(bytes.cast_signed())
        });
        match grown {
            Ok(before) => tenant.same("the heap's end", before, end)?,
            Err(refused @ Stop::Refused(_)) => {
                // What there was is there still.
                if end - HEAP >= PAGE {
                    tenant.expect(Entry::Look, &[end - PAGE, 1, 8], 0)?;
                }
                return Err(refused);
            }
            Err(other) => return Err(other),
        }
        let first = end.next_multiple_of(PAGE);
        end += bytes;
        let pages = end.next_multiple_of(PAGE).saturating_sub(first) / PAGE;
        if pages > 0 {
            tenant.expect(Entry::Look, &[first, pages, PAGE], 0)?;
            tenant.expect(Entry::Mark, &[first, pages, PAGE, 7], 7)?;
            tenant.expect(Entry::Sum, &[first, pages, PAGE], 7 * pages)?;
            tenant.expect(Entry::Mark, &[first, pages, PAGE, 0], 0)?;
        }
    }
    let all = (end - HEAP).cast_signed();
    tenant.attempt("grow_heap", |instance| instance.grow_heap(-all))?;
    traps_at(&mut tenant, Entry::Look, HEAP)
}

pub(crate) fn snapshots<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    let words = hand.upto(60 * PAGE / 8);
    let (mark, other) = (hand.word(), hand.word());
    let (write, all) = ([DATA, words, 8, mark], [DATA, words, 8]);
    let sum = mark.wrapping_mul(words);
    tenant.expect(Entry::Mark, &write, mark)?;
    let snapshot = tenant.attempt("snapshot", Instance::snapshot)?;
    for _ in 0..hand.upto(3) {
        tenant.expect(Entry::Sum, &all, sum)?;
        tenant.expect(Entry::Mark, &[DATA, hand.upto(words), 8, other], other)?;
        tenant.restore(&snapshot)?;
    }
    tenant.expect(Entry::Sum, &all, sum)?;
    drop(tenant);
    let mut second = Tenant::plain(hand)?;
    second.is_pristine()?;
    second.restore(&snapshot)?;
    second.expect(Entry::Sum, &all, sum)?;
    second.reset()?;
    second.is_pristine()
}

pub(crate) fn windows<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::new(hand, &hand.site().modules.open)?;
    for _ in 0..hand.upto(3) {
        let at = WINDOW + (hand.upto(WINDOW_BYTES / PAGE) - 1) * PAGE + hand.upto(100) * 16;
        // Nothing is there, or nothing any more.
        tenant.order_at(at, &[])?;
        match tenant.run()? {
            Interrupt::Trap(_) => {}
            other => return wrong(format!("{other}, of code that is not there")),
        }
        let shifts = [13, 7, 17].map(|most| hand.random(most) + 1);
        let code = guests::assemble(at, |code| guests::scrambles(code, shifts));
        tenant.attempt("write_code", |instance| instance.write_code(at, &code))?;
        let (rounds, seed) = (hand.upto(1000), hand.word());
        tenant.order_at(at, &[rounds, seed])?;
        match tenant.run()? {
            Interrupt::Finished(value) => {
                let expected = guests::scrambled(rounds, seed, shifts);
                tenant.same("what new code finds", value, expected)?;
            }
            other => return wrong(format!("{other}, of new code")),
        }
        tenant.leave_mark()?;
        tenant.reset()?;
    }
    tenant.is_pristine()
}
