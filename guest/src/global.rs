#![expect(unsafe_code, reason = "the global allocator")]
//! The heap that the host gave, as the program's global allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use crate::heap::Heap;

struct Global(UnsafeCell<Heap>);

// SAFETY: a guest has one thread, and no signal handler runs in it.
unsafe impl Sync for Global {}

#[global_allocator]
static GLOBAL: Global = Global(UnsafeCell::new(Heap::empty()));

/// Makes the host's memory the heap. Called once, before anything is allocated.
pub(crate) fn give(start: usize, end: usize) {
    GLOBAL.with(|heap| {
        // SAFETY: the host mapped this range for the heap, zeroed, and told nobody else of it.
        unsafe { heap.give(start, end) };
    });
}

impl Global {
    fn with<T>(&self, act: impl FnOnce(&mut Heap) -> T) -> T {
        // SAFETY: one thread, and `Heap` calls nothing that would come back here: the reference
        // is the only one.
        act(unsafe { &mut *self.0.get() })
    }
}

// SAFETY: `Heap` hands out disjoint blocks of memory that is the heap's alone, aligned and at
// least as long as the layout asks, and keeps off them until they are given back.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (block, _) = self.with(|heap| heap.take(layout));
        ptr::with_exposed_provenance_mut(block)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (block, zero) = self.with(|heap| heap.take(layout));
        let pointer = ptr::with_exposed_provenance_mut::<u8>(block);
        if !zero && !pointer.is_null() {
            // SAFETY: the block was just taken and has the layout's bytes.
            unsafe { pointer.write_bytes(0, layout.size()) };
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.with(|heap| {
            // SAFETY: by the caller's promise the block came from here with this layout and is
            // not used any more.
            unsafe { heap.put(pointer.expose_provenance(), layout) };
        });
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(bytes, layout.align()) else {
            return ptr::null_mut();
        };
        let block = pointer.expose_provenance();
        // SAFETY: by the caller's promise the block came from here with this layout, and what is
        // cut off is not used any more.
        if self.with(|heap| unsafe { heap.resize(block, layout, new) }) {
            return pointer;
        }
        // SAFETY: `new` is a layout of at least one byte by the caller's promise.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            let kept = layout.size().min(bytes);
            // SAFETY: both blocks have so many bytes, and are apart, since both are taken.
            unsafe { ptr::copy_nonoverlapping(pointer, moved, kept) };
            // SAFETY: the caller gives the old block up.
            unsafe { self.dealloc(pointer, layout) };
        }
        moved
    }
}
