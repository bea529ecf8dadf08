//! Where the contents are of pages that nobody has touched yet.

use std::collections::BTreeMap;
use std::ops::Range;

use vmctx::PAGE_BYTES;

use super::address_of;
use super::snapshot::Snapshot;
use super::table::Table;
use super::template::Template;
use crate::mapping::Mapping;
use crate::module::Module;

/// What an instance goes back to: its module, or a snapshot.
#[derive(Clone)]
pub(super) enum Origin {
    Module(Module),
    Snapshot(Snapshot),
}

/// One page of an origin: in this mapping of the host's, from this byte on.
pub(super) type Place<'a> = (&'a Mapping, u64);

impl Origin {
    pub(super) fn of_module(module: &Module) -> Self {
        Self::Module(module.clone())
    }

    /// What a page begins as; nothing for one of zeros.
    pub(super) fn page(&self, page: u32) -> Option<Place<'_>> {
        match self {
            Self::Module(module) => {
                let offset = module.initial_offset(address_of(page))?;
                Some((module.image().mapping(), offset))
            }
            Self::Snapshot(snapshot) => snapshot.page(page),
        }
    }

    /// The map to begin with.
    pub(super) fn table(&self) -> &Table {
        match self {
            Self::Module(module) => module.table(),
            Self::Snapshot(snapshot) => snapshot.table(),
        }
    }

    /// Where the heap ends to begin with.
    pub(super) fn heap_end(&self) -> u64 {
        match self {
            Self::Module(module) => module.heap().map_or(0, |heap| heap.start),
            Self::Snapshot(snapshot) => snapshot.heap_end(),
        }
    }

    /// Whether both are the same, and not only alike.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Module(one), Self::Module(other)) => one.is(other),
            (Self::Snapshot(one), Self::Snapshot(other)) => one.is(other),
            _ => false,
        }
    }
}

/// Templates that have been mapped over the origin, by their first pages. None overlaps another.
#[derive(Default)]
pub(super) struct Overlays(BTreeMap<u32, Overlay>);

struct Overlay {
    end: u32,
    template: Template,
    /// Which page of the template comes first.
    first: u32,
}

impl Overlays {
    /// Lays a template over absent pages.
    pub(super) fn put(&mut self, pages: &Range<u32>, template: &Template) {
        let overlay = Overlay {
            end: pages.end,
            template: template.clone(),
            first: 0,
        };
        self.0.insert(pages.start, overlay);
    }

    /// Takes away what is over these pages.
    pub(super) fn remove(&mut self, pages: &Range<u32>) {
        self.split_at(pages.start);
        self.split_at(pages.end);
        while let Some((&start, _)) = self.0.range(pages.clone()).next() {
            self.0.remove(&start);
        }
    }

    fn split_at(&mut self, page: u32) {
        let Some((&start, low)) = self.0.range_mut(..page).next_back() else {
            return;
        };
        if low.end <= page {
            return;
        }
        let high = Overlay {
            end: low.end,
            template: low.template.clone(),
            first: low.first + (page - start),
        };
        low.end = page;
        self.0.insert(page, high);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is over a page.
    pub(super) fn page(&self, page: u32) -> Option<Place<'_>> {
        let (start, overlay) = self.0.range(..=page).next_back()?;
        if page >= overlay.end {
            return None;
        }
        let number = overlay.first + (page - start);
        Some((overlay.template.mapping(), u64::from(number) * PAGE_BYTES))
    }
}
