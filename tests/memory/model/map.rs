//! The model: an instance's memory as a plain map from pages to what they are and hold.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;

use cellwall::abi::{GUEST, PAGE_BYTES};
use cellwall::{Access, Misuse, Protection};

use super::space::By;

const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// What a page is. One that is not in the map is absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The instance's own.
    Own(Protection),
    /// Code or constants of the module's.
    Fixed {
        execute: bool,
    },
    Guard,
}

impl Kind {
    /// Whether somebody may do this there.
    fn allows(self, access: Access, by: By) -> bool {
        match (self, access) {
            (Self::Guard, _) | (Self::Own(_), Access::Execute) => false,
            (Self::Own(_), _) if by == By::Host => true,
            (Self::Own(Protection::ReadWrite), _) => true,
            (Self::Own(to), access) => to == Protection::Read && access == Access::Read,
            (Self::Fixed { execute }, access) => match access {
                Access::Read => true,
                Access::Write => false,
                Access::Execute => execute,
            },
        }
    }
}

#[derive(Clone)]
struct Page {
    kind: Kind,
    /// Nothing for zeros.
    contents: Option<Rc<[u8; PAGE]>>,
    /// Whether it must take memory from the machine.
    there: bool,
}

impl Page {
    fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own(_))
    }

    fn bytes(&self) -> &[u8; PAGE] {
        self.contents.as_deref().unwrap_or(&ZEROS)
    }

    fn bytes_mut(&mut self) -> &mut [u8; PAGE] {
        self.there = true;
        Rc::make_mut(self.contents.get_or_insert_with(|| Rc::new(ZEROS)))
    }
}

/// Why a guest's access is none.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Obstacle {
    /// Nothing is mapped at this address, which is a guest's.
    Absent(u64),
    /// What is there does not allow it, or nothing can be there.
    Refused(u64),
}

/// The memory of one instance, and what it may hold.
#[derive(Clone)]
pub(super) struct Map {
    pages: BTreeMap<u64, Page>,
    /// How many of them are the instance's own.
    own: u64,
    pub(super) heap_end: u64,
    pub(super) terms: Terms,
}

/// What an engine lets its instances have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Whether maps can be changed.
    pub(super) paged: bool,
    /// How many bytes an instance may hold.
    pub(super) limit: u64,
    /// How many all together may hold.
    pub(super) engine_limit: u64,
    /// How many the other instances hold now.
    pub(super) others: u64,
}

/// The pages that a range of bytes, which are not none, is in.
fn pages_of(address: u64, length: u64) -> Option<RangeInclusive<u64>> {
    let last = address.checked_add(length)?.checked_sub(1)?;
    Some(address / PAGE_BYTES..=last / PAGE_BYTES)
}

/// Cuts a range of bytes at the borders of pages: the page, from where on in it, how many.
fn parts(address: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = address;
    let end = address + length as u64;
    std::iter::from_fn(move || {
        let from = usize::try_from(at % PAGE_BYTES).unwrap();
        let bytes = usize::try_from(end - at).unwrap().min(PAGE - from);
        let page = at / PAGE_BYTES;
        at += bytes as u64;
        (bytes > 0).then_some((page, from..from + bytes))
    })
}

impl Map {
    pub(super) fn new(heap_end: u64, terms: Terms) -> Self {
        Self {
            pages: BTreeMap::new(),
            own: 0,
            heap_end,
            terms,
        }
    }

    /// Puts pages where none are.
    pub(super) fn fill(&mut self, start: u64, end: u64, kind: Kind, contents: &[u8]) {
        let mut contents = contents.chunks(PAGE);
        for page in start / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            let mut new = Page {
                kind,
                contents: None,
                there: false,
            };
            if let Some(bytes) = contents.next() {
                new.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                new.there = false;
            }
            self.own += u64::from(new.is_own());
            assert!(self.pages.insert(page, new).is_none());
        }
    }

    /// As it is kept, or begins anew: nothing needs to take memory.
    pub(super) fn origin(&self) -> Self {
        let mut origin = self.clone();
        for page in origin.pages.values_mut() {
            page.there = false;
        }
        origin
    }

    /// How many bytes count for the limits.
    pub(super) fn held(&self) -> u64 {
        self.own * PAGE_BYTES
    }

    /// The fewest bytes that it takes from the machine.
    pub(super) fn resident_at_least(&self) -> u64 {
        self.count(|page| page.there && page.is_own()) * PAGE_BYTES
    }

    /// How many pages the guest must not touch, but the host keeps.
    pub(super) fn hidden(&self) -> u64 {
        self.count(|page| page.kind == Kind::Own(Protection::None))
    }

    fn count(&self, fits: impl Fn(&Page) -> bool) -> u64 {
        self.pages.values().filter(|page| fits(page)).count() as u64
    }

    /// The longest runs of pages that somebody can read.
    pub(super) fn readable(&self, by: By) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (&number, page) in &self.pages {
            if !page.kind.allows(Access::Read, by) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == number => run.end += 1,
                _ => runs.push(number..number + 1),
            }
        }
        runs
    }

    /// How many bytes of the instance's own pages that are not zero.
    pub(super) fn contents_bytes(&self) -> u64 {
        self.count(|page| page.is_own() && page.bytes() != &ZEROS) * PAGE_BYTES
    }

    /// What a page is.
    pub(super) fn kind(&self, number: u64) -> Option<Kind> {
        self.pages.get(&number).map(|page| page.kind)
    }

    /// The contents of a page that is mapped.
    pub(super) fn page(&self, number: u64) -> &[u8; PAGE] {
        self.pages[&number].bytes()
    }

    /// The first page of a range that is not absent.
    pub(super) fn first(&self, pages: &Range<u64>) -> Option<u64> {
        self.pages
            .range(pages.clone())
            .map(|(page, _)| *page)
            .next()
    }

    /// Other rights; the contents stay.
    pub(super) fn set_kind(&mut self, pages: Range<u64>, kind: Kind) {
        for (_, page) in self.pages.range_mut(pages) {
            page.kind = kind;
        }
    }

    /// All pages of a range take memory.
    pub(super) fn are_there(&mut self, pages: Range<u64>) {
        for (_, page) in self.pages.range_mut(pages) {
            page.there = true;
        }
    }

    /// Pages are no more.
    pub(super) fn remove(&mut self, pages: &Range<u64>) {
        while let Some(page) = self.first(pages) {
            let page = self.pages.remove(&page).expect("a page");
            self.own -= u64::from(page.is_own());
        }
    }

    /// What the guest finds in the way of an access, if anything; what it can touch takes memory.
    pub(super) fn touch(
        &mut self,
        address: u64,
        length: u64,
        access: Access,
    ) -> Result<(), Obstacle> {
        for number in pages_of(address, length).expect("an address") {
            let at = address.max(number * PAGE_BYTES);
            match self.pages.get_mut(&number) {
                Some(page) if page.kind.allows(access, By::Guest) => page.there = true,
                None if GUEST.contains(&at) => return Err(Obstacle::Absent(at)),
                Some(_) | None => return Err(Obstacle::Refused(at)),
            }
        }
        Ok(())
    }

    /// Copies out what is mapped.
    pub(super) fn copy_out(&self, address: u64, length: usize) -> Vec<u8> {
        let parts = parts(address, length);
        parts
            .flat_map(|(page, bytes)| self.pages[&page].bytes()[bytes].iter().copied())
            .collect()
    }

    /// Copies in where something is mapped.
    pub(super) fn copy_in(&mut self, address: u64, mut from: &[u8]) {
        for (page, bytes) in parts(address, from.len()) {
            let (now, rest) = from.split_at(bytes.len());
            let page = self.pages.get_mut(&page).expect("a page");
            page.bytes_mut()[bytes].copy_from_slice(now);
            from = rest;
        }
    }

    /// Fills with zeros what is mapped.
    pub(super) fn clear(&mut self, address: u64, length: usize) {
        for (page, bytes) in parts(address, length) {
            let page = self.pages.get_mut(&page).expect("a page");
            if bytes.len() == PAGE {
                // It may have been given back.
                (page.contents, page.there) = (None, false);
            } else {
                page.bytes_mut()[bytes].fill(0);
            }
        }
    }

    /// Whether somebody may do this to all of the range.
    pub(super) fn check(
        &self,
        address: u64,
        length: u64,
        access: Access,
        by: By,
    ) -> Result<(), Misuse> {
        let allows = |page: u64| {
            let page = self.pages.get(&page);
            page.is_some_and(|page| page.kind.allows(access, by))
        };
        let fits = pages_of(address, length).is_some_and(|mut pages| pages.all(allows));
        if length == 0 || fits {
            return Ok(());
        }
        Err(Misuse::OutOfBounds {
            address,
            length,
            access,
        })
    }
}
