//! The wall, tested on the kernel that it runs on: real workers are attacked from inside, by guest
//! code, and each layer is looked at from outside.
//!
//! | module | idea |
//! |---|---|
//! | [`row`] | one attempt or check: expected, outcome, verdict |
//! | `inside` | what a guest tries: system call numbers 0 to 600 by every door, and named escapes |
//! | `outside` | what an operator sees of a live worker in `/proc`, against what must be there |
//! | `late` | workers that did not start in time |
//! | [`report`] | all rows: a table, JSON, and whether the wall is whole |

pub mod inside;
mod late;
pub mod outside;
pub mod report;
pub mod row;

pub use row::{Row, Verdict};
