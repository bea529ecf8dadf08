//! Workers without an instance, by their modules.

use std::collections::HashMap;

/// What can be kept for the next instance of the same module.
pub(super) trait Keep {
    /// What tells modules apart, as long as one of their workers is kept.
    fn module(&self) -> usize;
}

/// Kept workers: the last that came is the first that goes, since its memory is the warmest.
///
/// To take and to put, which each instance does, costs 30 ns whatever is kept. To find the oldest
/// looks at all: 0.2 µs for 64 workers, and for 10,000 of them 5 µs if they are of one module and
/// 40 µs if each is of its own. That is less than to end or to clean the one that is found. Trees
/// by age would find it in 0.2 µs, and make the first three to six times as expensive.
pub(super) struct Idle<T> {
    by_module: HashMap<usize, Vec<Kept<T>>>,
    count: usize,
    dirty: usize,
    /// Counts what has come, to find the oldest.
    clock: u64,
}

struct Kept<T> {
    what: T,
    since: Since,
    is_clean: bool,
}

/// How one is put down.
#[derive(Clone, Copy)]
pub(super) enum As {
    /// As whoever had it left it.
    Dirty,
    /// Nobody has had it.
    Clean,
    /// Cleaned. It has been here since then, and has only been away for that.
    Cleaned(Since),
}

/// When one came, among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Since(u64);

impl<T: Keep> Idle<T> {
    pub(super) fn new() -> Self {
        Self {
            by_module: HashMap::new(),
            count: 0,
            dirty: 0,
            clock: 0,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many are still to be cleaned.
    pub(super) fn dirty(&self) -> usize {
        self.dirty
    }

    /// How many there are of a module.
    pub(super) fn of(&self, module: usize) -> usize {
        self.by_module.get(&module).map_or(0, Vec::len)
    }

    pub(super) fn put(&mut self, what: T, how: As) {
        self.clock += 1;
        self.count += 1;
        let (since, is_clean) = match how {
            As::Dirty => (Since(self.clock), false),
            As::Clean => (Since(self.clock), true),
            As::Cleaned(since) => (since, true),
        };
        self.dirty += usize::from(!is_clean);
        let of_module = self.by_module.entry(what.module()).or_default();
        let later = of_module.iter().rev().take_while(|kept| kept.since > since);
        let place = of_module.len() - later.count();
        let kept = Kept {
            what,
            since,
            is_clean,
        };
        of_module.insert(place, kept);
    }

    /// One of a module, and whether it is clean: the last that came.
    pub(super) fn take(&mut self, module: usize) -> Option<(T, bool)> {
        let of_module = self.by_module.get_mut(&module)?;
        // An empty list stays for the next one: whoever takes and gives all the time allocates
        // nothing.
        let kept = of_module.pop()?;
        Some(self.taken(kept))
    }

    /// The one that has been there for longest, whatever its module.
    pub(super) fn take_oldest(&mut self) -> Option<T> {
        self.by_module.retain(|_, of_module| !of_module.is_empty());
        let lists = self.by_module.iter();
        let first = |(module, list): (&usize, &Vec<Kept<T>>)| Some((list.first()?.since, *module));
        let (_, module) = lists.filter_map(first).min()?;
        let kept = self.by_module.get_mut(&module)?.remove(0);
        Some(self.taken(kept).0)
    }

    /// One that is still to be cleaned: the oldest, which is the least likely to be wanted
    /// meanwhile.
    pub(super) fn take_dirty(&mut self) -> Option<(T, Since)> {
        if self.dirty == 0 {
            return None;
        }
        let is_dirty = |kept: &Kept<T>| !kept.is_clean;
        let (since, module, place) = self
            .by_module
            .iter()
            .filter_map(|(module, list)| {
                let place = list.iter().position(is_dirty)?;
                Some((list.get(place)?.since, *module, place))
            })
            .min()?;
        let kept = self.by_module.get_mut(&module)?.remove(place);
        Some((self.taken(kept).0, since))
    }

    /// All of them.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        (self.count, self.dirty) = (0, 0);
        let lists = self.by_module.drain();
        lists
            .flat_map(|(_, list)| list)
            .map(|kept| kept.what)
            .collect()
    }

    fn taken(&mut self, kept: Kept<T>) -> (T, bool) {
        self.count -= 1;
        self.dirty -= usize::from(!kept.is_clean);
        (kept.what, kept.is_clean)
    }
}

#[cfg(test)]
mod tests {
    use super::{As, Idle, Keep};

    #[derive(Debug, PartialEq, Eq)]
    struct Worker(usize, char);

    impl Keep for Worker {
        fn module(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn the_last_of_a_module_goes_first_and_the_oldest_gives_way() {
        let mut idle = Idle::new();
        for (module, name) in [(1, 'a'), (2, 'b'), (1, 'c')] {
            idle.put(Worker(module, name), As::Dirty);
        }
        assert_eq!(
            (idle.count(), idle.of(1), idle.of(2), idle.of(3)),
            (3, 2, 1, 0)
        );
        assert_eq!(idle.take(1), Some((Worker(1, 'c'), false)));
        assert_eq!(idle.take(3), None);
        assert_eq!(idle.take_oldest(), Some(Worker(1, 'a')));
        assert_eq!(idle.take(1), None);
        assert_eq!(idle.take_oldest(), Some(Worker(2, 'b')));
        assert_eq!(idle.take_oldest(), None);
        assert_eq!(idle.count(), 0);
    }

    #[test]
    fn what_is_dirty_is_counted_and_found() {
        let mut idle = Idle::new();
        idle.put(Worker(1, 'a'), As::Clean);
        idle.put(Worker(2, 'b'), As::Dirty);
        idle.put(Worker(1, 'c'), As::Dirty);
        assert_eq!(idle.dirty(), 2);
        assert_eq!(
            idle.take_dirty().map(|(worker, _)| worker),
            Some(Worker(2, 'b'))
        );
        assert_eq!(idle.take(1), Some((Worker(1, 'c'), false)));
        assert_eq!((idle.dirty(), idle.take_dirty()), (0, None));
        idle.put(Worker(3, 'd'), As::Dirty);
        assert_eq!(idle.take_all().len(), 2);
        assert_eq!((idle.count(), idle.dirty()), (0, 0));
    }

    #[test]
    fn who_was_cleaned_is_no_newer() {
        let mut idle = Idle::new();
        for name in ['a', 'b', 'c'] {
            idle.put(Worker(1, name), As::Dirty);
        }
        idle.put(Worker(2, 'd'), As::Dirty);
        for _ in 0..2 {
            let (worker, since) = idle.take_dirty().unwrap();
            idle.put(worker, As::Cleaned(since));
        }
        assert_eq!(idle.take_oldest(), Some(Worker(1, 'a')));
        assert_eq!(idle.take(1), Some((Worker(1, 'c'), false)));
        assert_eq!(idle.take_oldest(), Some(Worker(1, 'b')));
        assert_eq!(idle.take_oldest(), Some(Worker(2, 'd')));
    }
}
