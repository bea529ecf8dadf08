//! The wall, tested on the kernel that it runs on: real workers are attacked from inside, by guest
//! code, and each layer is looked at from outside.
//!
//! | module | idea |
//! |---|---|
//! | [`row`] | one attempt or check: expected, outcome, verdict |
//! | `inside` | what a guest tries: every system call number by every door, and named escapes |
//! | `outside` | what an operator sees of a live worker in `/proc`, against what must be there |
//! | [`report`] | all rows: a table, JSON, and whether the wall is whole |

pub mod inside;
pub mod outside;
pub mod report;
pub mod row;

pub use row::{Row, Verdict};
