//! Random use against a record of what is in use.

use super::*;
use std::vec;
use std::vec::Vec;

/// The size of the heaps under test.
const BYTES: usize = 4 << 20;

/// Zeroed memory that lives as long as the test, and its heap.
struct Arena {
    heap: Heap,
    _memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Arena {
    fn new() -> Self {
        let mut memory = vec![0u8; BYTES + PAGE];
        let start = memory
            .as_mut_ptr()
            .expose_provenance()
            .next_multiple_of(PAGE);
        let end = start + BYTES;
        let mut heap = Heap::empty();
        // SAFETY: the vector's memory, which the arena keeps and does not touch by itself.
        unsafe { heap.give(start, end) };
        Self {
            heap,
            _memory: memory,
            start,
            end,
        }
    }

    fn take(&mut self, bytes: usize, align: usize) -> Block {
        let layout = Layout::from_size_align(bytes, align).unwrap();
        let (address, zero) = self.heap.take(layout);
        if address != 0 {
            assert!(address.is_multiple_of(align));
            assert!(address >= self.start && address + bytes <= self.end);
        }
        Block {
            address,
            layout,
            zero,
            mark: 0,
        }
    }

    fn put(&mut self, block: &Block) {
        // SAFETY: tests put each block once, with the layout that it has.
        unsafe { self.heap.put(block.address, block.layout) };
    }

    /// The bytes in holes and beyond; holes must ascend without touching.
    fn free_bytes(&self) -> usize {
        let mut bytes = self.heap.end - self.heap.top;
        let (mut at, mut end) = (self.heap.holes, self.start - 1);
        while at != 0 {
            let hole = self.heap.hole(at);
            assert!(at > end && at + hole.bytes < self.heap.top);
            bytes += hole.bytes;
            (at, end) = (hole.next, at + hole.bytes);
        }
        bytes
    }

    fn resize(&mut self, block: &mut Block, bytes: usize) -> bool {
        let new = Layout::from_size_align(bytes, block.layout.align()).unwrap();
        // SAFETY: the block has this layout, and tests look at no more than the new one.
        let resized = unsafe { self.heap.resize(block.address, block.layout, new) };
        if resized {
            block.layout = new;
        }
        resized
    }
}

#[derive(Debug)]
struct Block {
    address: usize,
    layout: Layout,
    zero: bool,
    mark: u8,
}

impl Block {
    fn bytes(&mut self) -> &mut [u8] {
        let pointer = ptr::with_exposed_provenance_mut::<u8>(self.address);
        // SAFETY: the heap handed this block out to nobody else, from an initialised vector.
        unsafe { core::slice::from_raw_parts_mut(pointer, self.layout.size()) }
    }

    fn fill(&mut self, mark: u8) {
        self.mark = mark;
        self.bytes().fill(mark);
    }

    fn assert_untouched(&mut self) {
        let mark = self.mark;
        assert!(
            self.bytes().iter().all(|&byte| byte == mark),
            "somebody wrote into a block"
        );
    }
}

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn size(&mut self) -> usize {
        let bits = self.below(19);
        1 + self.below(1 << bits)
    }
}

#[test]
fn blocks_stay_apart_and_all_comes_back() {
    let mut arena = Arena::new();
    let mut random = Random(7);
    let mut blocks: Vec<Block> = Vec::new();
    for step in 0..20_000usize {
        let mark = step.to_le_bytes()[0];
        match random.below(5) {
            0 | 1 => {
                let align = 1 << random.below(15);
                let mut block = arena.take(random.size(), align);
                if block.address != 0 {
                    assert!(!block.zero || block.bytes().iter().all(|&byte| byte == 0));
                    block.fill(mark);
                    blocks.push(block);
                }
            }
            2 if !blocks.is_empty() => {
                let index = random.below(blocks.len());
                let block = &mut blocks[index];
                if arena.resize(block, random.size()) {
                    block.fill(mark);
                }
            }
            _ if !blocks.is_empty() => {
                let index = random.below(blocks.len());
                let mut block = blocks.swap_remove(index);
                block.assert_untouched();
                arena.put(&block);
            }
            _ => {}
        }
    }
    for mut block in blocks {
        block.assert_untouched();
        arena.put(&block);
    }
    // Only whole spans of small blocks are still taken.
    let taken = BYTES - arena.free_bytes();
    assert!(
        taken.is_multiple_of(SPAN) && taken < BYTES,
        "{taken} bytes were lost"
    );
}

#[test]
fn large_blocks_melt_together_again() {
    let mut arena = Arena::new();
    let blocks: Vec<Block> = (0..16).map(|_| arena.take(BYTES / 16, 1)).collect();
    assert!(blocks.iter().all(|block| block.address != 0));
    assert_eq!(arena.take(1, 1).address, 0, "the heap is full");
    for index in [3, 1, 2, 15, 0, 14, 7, 9, 8, 5, 4, 6, 13, 11, 12, 10] {
        arena.put(&blocks[index]);
    }
    assert_eq!(arena.take(BYTES, 1).address, arena.start);
}

#[test]
fn growing_stays_in_place_where_there_is_room() {
    let mut arena = Arena::new();
    let mut block = arena.take(100 * PAGE, 1);
    assert!(arena.resize(&mut block, 500 * PAGE));
    let next = arena.take(10 * PAGE, 1);
    assert!(!arena.resize(&mut block, 501 * PAGE));
    arena.put(&next);
    assert!(arena.resize(&mut block, BYTES));
    assert!(arena.resize(&mut block, 10 * PAGE));
    assert_eq!(
        arena.take(BYTES - 10 * PAGE, 1).address,
        block.address + 10 * PAGE
    );
}

#[test]
fn only_untouched_memory_counts_as_zero() {
    let mut arena = Arena::new();
    let mut block = arena.take(50 * PAGE, 1);
    assert!(block.zero);
    block.fill(1);
    arena.put(&block);
    let again = arena.take(20 * PAGE, 1);
    assert!(!again.zero);
    let beyond = arena.take(60 * PAGE, 1);
    assert!(!beyond.zero, "it begins in used memory");
    assert!(arena.take(100 * PAGE, 1).zero);
}

#[test]
fn absurd_sizes_fail_without_harm() {
    let mut arena = Arena::new();
    for (bytes, align) in [
        (BYTES + 1, 1),
        (isize::MAX as usize, 1),
        (1, 1 << 40),
        (1, 1 << 62),
    ] {
        assert_eq!(arena.take(bytes, align).address, 0);
    }
    assert_eq!(Heap::empty().take(Layout::new::<u64>()).0, 0);
    assert_eq!(arena.take(BYTES, 1).address, arena.start);
}
