//! One instance and its model, compared.

use cellwall::abi::{PAGE_BYTES, Span};
use cellwall::{Access, Instance, Misuse};

use super::kernel::MemoryFile;
use super::map::Map;
use super::play::At;
use super::space::{By, Space as _, memory};

/// An instance and its model.
pub(super) struct Side {
    pub(super) instance: Instance,
    pub(super) map: Map,
    pub(super) at: At,
    /// Whether its memory may differ from what it began with, where that is certain.
    pub(super) touched: Option<bool>,
    file: MemoryFile,
    peak: u64,
}

impl Side {
    pub(super) fn new(instance: Instance, map: Map) -> Self {
        Self {
            file: MemoryFile::of(&instance),
            instance,
            map,
            at: At::Rest,
            touched: Some(false),
            peak: 0,
        }
    }

    /// Takes over what the model cannot know, if there is anything.
    pub(super) fn learn(&mut self, span: &Span) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(span.end - span.start).unwrap()];
        self.map.write(span.start, &bytes, By::Host).ok()?;
        self.instance
            .read_as_host(span.start, &mut bytes)
            .expect("what is mapped");
        self.map.copy_in(span.start, &bytes);
        Some(bytes)
    }

    /// Accounts are the model's, and the kernel's.
    pub(super) fn check_stats(&mut self) {
        let stats = self.instance.memory_stats().expect("numbers");
        assert_eq!(stats.mapped, self.map.held());
        let least = self.map.resident_at_least();
        assert!(
            (least..=stats.mapped).contains(&stats.resident),
            "{stats:?}, {least}"
        );
        // What is hidden from the guest may be in the file, or with the host.
        let with_host = stats.resident - self.file.bytes();
        assert!(with_host.is_multiple_of(PAGE_BYTES), "{stats:?}");
        assert!(with_host / PAGE_BYTES <= self.map.hidden(), "{stats:?}");
        match self.touched {
            Some(touched) => assert_eq!(stats.dirty, if touched { stats.resident } else { 0 }),
            None => assert!(
                stats.dirty == 0 || stats.dirty == stats.resident,
                "{stats:?}"
            ),
        }
        assert!(
            stats.peak >= stats.resident.max(self.peak),
            "{stats:?}, {}",
            self.peak
        );
        self.peak = stats.peak;
    }

    /// All that the host can read is what the model says, and nothing else can be read.
    pub(super) fn compare(&mut self) {
        for run in self.map.readable(By::Host) {
            let (start, end) = (run.start * PAGE_BYTES, run.end * PAGE_BYTES);
            for outside in [start - 1, end] {
                let refused = Misuse::OutOfBounds {
                    address: outside,
                    length: 1,
                    access: Access::Read,
                };
                let found = self.instance.read_as_host(outside, &mut [0]);
                assert_eq!(memory(found), Err(refused));
            }
            let mut bytes = vec![0xa5; usize::try_from(end - start).unwrap()];
            self.instance
                .read_as_host(start, &mut bytes)
                .expect("what is mapped");
            for (page, bytes) in run.zip(bytes.chunks(4096)) {
                let expected = self.map.page(page);
                if expected != bytes {
                    let differs = expected.iter().zip(bytes).position(|(one, two)| one != two);
                    panic!("page {page:#x} differs at {differs:?}");
                }
            }
        }
    }
}
