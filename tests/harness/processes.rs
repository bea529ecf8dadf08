#![expect(unsafe_code, reason = "adopts orphans: there is no wrapper")]
//! The processes below this one, by their numbers. Zombies count.

use std::fs;

use linux_raw::{arch, nr};

/// What a nursery calls itself, as far as the kernel keeps it.
const NURSERY: &str = "cellwall-nurser\n";

/// Children of this process, whichever thread started them.
pub(crate) fn child_processes() -> Vec<u32> {
    children_of(std::process::id())
}

/// How many children this process has.
pub(crate) fn children() -> usize {
    child_processes().len()
}

/// Children of a process; none if it is gone.
pub(crate) fn children_of(process: u32) -> Vec<u32> {
    // By its own name where this process is meant: `/proc` may have another number for it.
    let process = match process {
        own if own == std::process::id() => "self".to_owned(),
        other => other.to_string(),
    };
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let numbers = |list: String| -> Vec<u32> {
        let numbers = list.split_whitespace().map(|number| number.parse());
        numbers.collect::<Result<_, _>>().expect("numbers")
    };
    lists.flat_map(numbers).collect()
}

/// Children that are nurseries, once they have said so.
pub(crate) fn nurseries() -> Vec<u32> {
    let children = child_processes().into_iter();
    children.filter(|child| is_nursery(*child)).collect()
}

/// All that are no nurseries: children of this process, and of its nurseries.
pub(crate) fn workers() -> Vec<u32> {
    let (nurseries, mut workers): (Vec<u32>, Vec<u32>) = child_processes()
        .into_iter()
        .partition(|child| is_nursery(*child));
    workers.extend(nurseries.into_iter().flat_map(children_of));
    workers
}

fn is_nursery(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == NURSERY)
}

/// From here on this process is the parent of what its descendants leave behind.
pub(crate) fn adopt_orphans() {
    use linux_raw::sys::prctl::PR_SET_CHILD_SUBREAPER;
    // SAFETY: the call takes two numbers and changes no memory.
    let answer = unsafe { arch::syscall2(nr::PRCTL, PR_SET_CHILD_SUBREAPER.into(), 1u32.into()) };
    answer.done().expect("PR_SET_CHILD_SUBREAPER");
}
