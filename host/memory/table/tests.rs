//! The table against a plain list of a million flags, and its edges.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::{CHUNK_PAGES, CHUNKS, Chunk, PAGES, Page, Table};
use crate::interrupt::Access;

/// What is done to a range of pages.
#[derive(Clone, Copy, Debug)]
enum Change {
    Set(Page),
    /// Keeps some flags and adds others.
    Mask(Page, Page),
    /// Changes only pages that have all of these flags: to these.
    Where(Page, Page),
}

impl Change {
    fn of(self, page: Page) -> Page {
        match self {
            Self::Set(to) => to,
            Self::Mask(keep, add) => page & keep | add,
            Self::Where(with, to) if page.contains(with) => to,
            Self::Where(..) => page,
        }
    }

    fn make(self, table: &mut Table, pages: Range<u32>) {
        match self {
            Self::Set(to) => table.set(pages, to),
            _ => table.update(pages, |page| self.of(page)),
        }
    }
}

/// A place at both ends of the guest, where chunks and words of the bitmap meet, or anywhere.
fn place() -> impl Strategy<Value = u32> {
    let edges = vec![
        0,
        CHUNK_PAGES,
        2 * CHUNK_PAGES,
        64 * CHUNK_PAGES,
        65 * CHUNK_PAGES,
        PAGES / 2,
        PAGES - CHUNK_PAGES,
        PAGES,
    ];
    let near = (prop::sample::select(edges), -3..=3_i32)
        .prop_map(|(edge, off)| edge.saturating_add_signed(off).min(PAGES));
    prop_oneof![6 => near, 2 => 0..4 * CHUNK_PAGES, 1 => 0..=PAGES]
}

fn range() -> impl Strategy<Value = Range<u32>> {
    let to_place = (place(), place()).prop_map(|(one, other)| one.min(other)..one.max(other));
    let of_length = (place(), 0..3 * CHUNK_PAGES)
        .prop_map(|(start, length)| start..(start + length).min(PAGES));
    let whole_chunks = (0..CHUNKS, 1..4_u32)
        .prop_map(|(first, count)| first * CHUNK_PAGES..(first + count).min(CHUNKS) * CHUNK_PAGES);
    // Most are short: a list of a million takes its time.
    prop_oneof![1 => to_place, 60 => of_length, 20 => whole_chunks]
}

/// Few different flags, so that neighbours are often equal.
fn flags() -> impl Strategy<Value = Page> {
    prop::sample::select(vec![
        Page::empty(),
        Page::empty(),
        Page::READ,
        Page::READ | Page::WRITE | Page::NATIVE,
        Page::HIDDEN,
    ])
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => flags().prop_map(Change::Set),
        1 => (flags(), flags()).prop_map(|(keep, add)| Change::Mask(keep, add)),
        1 => (flags(), flags()).prop_map(|(with, to)| Change::Where(with, to)),
    ]
}

/// The runs of neighbours that are alike in a range of the list.
fn plain_runs(
    list: &[Page],
    pages: &Range<u32>,
    alike: impl Fn(Page, Page) -> bool,
) -> Vec<(Range<u32>, Page)> {
    let mut at = pages.start;
    list[pages.start as usize..pages.end as usize]
        .chunk_by(|one, next| alike(*one, *next))
        .map(|run| {
            let start = at;
            at += u32::try_from(run.len()).unwrap();
            (start..at, run[0])
        })
        .collect()
}

/// Compares every answer about a range with the list's.
fn agree(table: &Table, list: &[Page], pages: &Range<u32>, with: Page) {
    let runs: Vec<_> = table.runs(pages.clone()).collect();
    assert_eq!(
        runs,
        plain_runs(list, pages, |one, next| one == next),
        "the runs of {pages:?}"
    );

    let fits = |page: Page| page.contains(with);
    let fitting: Vec<_> = plain_runs(list, pages, |one, next| fits(one) == fits(next))
        .into_iter()
        .filter_map(|(run, page)| fits(page).then_some(run))
        .collect();
    let runs: Vec<_> = table.runs_of(pages.clone(), fits).collect();
    assert_eq!(runs, fitting, "the pages with {with:?} in {pages:?}");

    let count: usize = fitting.iter().map(ExactSizeIterator::len).sum();
    assert_eq!(table.count(pages.clone(), fits), count as u64);
    assert_eq!(table.all(pages.clone(), fits), count == pages.len());
    for page in [pages.start, pages.end.saturating_sub(1)] {
        if let Some(flags) = list.get(page as usize) {
            assert_eq!(table.get(page), *flags, "page {page:#x}");
        }
    }
}

/// Chunks are kept as one exactly if they are, and the bitmap knows those that are not absent.
fn is_tidy(table: &Table) {
    for (number, chunk) in (0..CHUNKS).zip(&table.chunks) {
        if let Chunk::Mixed(pages) = chunk {
            assert!(pages.iter().any(|page| *page != pages[0]), "chunk {number}");
        }
        let occupied = table.occupied[(number / 64) as usize] >> (number % 64) & 1 == 1;
        assert_eq!(occupied, !chunk.is_absent(), "chunk {number}");
    }
}

proptest! {
    // Few cases of many steps: each ends with a look at all pages.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_changes(steps in prop::collection::vec((range(), change(), range(), flags()), 8..64)) {
        let mut table = Table::new();
        let mut list = vec![Page::empty(); PAGES as usize];
        for (pages, change, asked, with) in steps {
            let before = table.clone();
            change.make(&mut table, pages.clone());
            agree(&before, &list, &pages, with); // a clone does not change with the table
            for page in &mut list[pages.start as usize..pages.end as usize] {
                *page = change.of(*page);
            }
            agree(&table, &list, &pages, with);
            agree(&table, &list, &asked, with);
            is_tidy(&table);
        }
        agree(&table, &list, &(0..PAGES), Page::READ);
    }
}

#[test]
fn the_first_and_the_last_page() {
    let mut table = Table::new();
    for page in [0, CHUNK_PAGES - 1, CHUNK_PAGES, PAGES - 1] {
        assert_eq!(table.get(page), Page::empty());
        table.set(page..page + 1, Page::READ);
        assert_eq!(table.get(page), Page::READ);
        assert!(table.all(page..page + 1, |page| page == Page::READ));
    }
    let runs: Vec<_> = table.runs(0..PAGES).collect();
    let expected = [
        (0..1, Page::READ),
        (1..511, Page::empty()),
        (511..513, Page::READ),
        (513..PAGES - 1, Page::empty()),
        (PAGES - 1..PAGES, Page::READ),
    ];
    assert_eq!(runs, expected);
    table.set(0..PAGES, Page::WRITE);
    assert_eq!(
        table.runs(0..PAGES).collect::<Vec<_>>(),
        [(0..PAGES, Page::WRITE)]
    );
    assert_eq!(table.count(0..PAGES, |page| page == Page::WRITE), 1 << 20);
}

#[test]
fn pages_that_fit_join_whatever_else_they_are() {
    let mut table = Table::new();
    table.set(510..512, Page::READ);
    table.set(512..514, Page::READ | Page::LAZY);
    table.set(515..516, Page::READ);
    let readable: Vec<_> = table
        .runs_of(0..PAGES, |page| page.contains(Page::READ))
        .collect();
    assert_eq!(readable, [510..514, 515..516]);
}

#[test]
fn an_empty_range_is_nothing() {
    let mut table = Table::new();
    for pages in [0..0, PAGES..PAGES, Range { start: 7, end: 5 }] {
        table.set(pages.clone(), Page::READ);
        assert_eq!(table.runs(pages.clone()).count(), 0);
        assert_eq!(table.count(pages.clone(), |_| true), 0);
        assert!(table.all(pages, |_| false));
    }
    assert_eq!(
        table.runs(0..PAGES).collect::<Vec<_>>(),
        [(0..PAGES, Page::empty())]
    );
}

#[test]
fn beyond_the_last_page_is_a_panic() {
    let beyond = PAGES - 1..PAGES + 1;
    let asks: [fn(Range<u32>); 7] = [
        |pages| _ = Table::new().get(pages.end - 1),
        |pages| Table::new().set(pages, Page::empty()),
        |pages| Table::new().update(pages, |page| page),
        |pages| _ = Table::new().runs(pages).count(),
        |pages| _ = Table::new().runs_of(pages, |_| true).count(),
        |pages| _ = Table::new().count(pages, |_| true),
        |pages| _ = Table::new().all(pages, |_| true),
    ];
    for ask in asks {
        for pages in [beyond.clone(), PAGES..PAGES + 1, u32::MAX - 1..u32::MAX] {
            let panic = catch_unwind(AssertUnwindSafe(|| ask(pages))).unwrap_err();
            let text = panic.downcast::<String>().unwrap();
            assert!(text.starts_with("the guest has no page"), "{text}");
        }
    }
}

#[test]
fn guards_and_hidden_pages_allow_nothing() {
    let accesses = [Access::Read, Access::Write, Access::Execute];
    for bits in 0..=Page::all().bits() {
        let page = Page::from_bits_retain(bits);
        let shut = page.intersects(Page::GUARD | Page::HIDDEN);
        for (access, right) in accesses
            .into_iter()
            .zip([Page::READ, Page::WRITE, Page::EXECUTE])
        {
            assert_eq!(
                page.allows(access),
                page.contains(right) && !shut,
                "{page:?} {access:?}"
            );
        }
    }
}
