//! Figures, each beside a peer's and the machine's own limit, measured in one run by one program.
//!
//! ```no_run
//! use bench::{Plan, TOPICS, table, take};
//!
//! let plan = Plan { quick: true, root: "..".into(), target: "../target".into() };
//! let measures = TOPICS.iter().flat_map(|topic| topic.measures());
//! let figures: Vec<_> = measures.map(|measure| take(measure, &plan)).collect();
//! println!("{}", table(&figures));
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `figure`, `target` | what was measured; what ours is to reach |
//! | `measure`, `measures` | what can be measured, and all that is |
//! | `rounds` | the sides of a measure take turns |
//! | `remote` | a side in a process of its own |
//! | `crowd` | threads that all do the same at once |
//! | `table`, `chart` | the figures for people |
//! | `ours` | what Cellwall needs |
//! | `polkavm`, `wasmtime` | what the peers need |
//! | `limits` | what the bare kernel and the machine need |
//! | `machine`, `cpus`, `window` | the machine; a CPU for each side; memory for the limits |

mod chart;
mod cpus;
mod crowd;
mod figure;
mod limits;
mod machine;
mod measure;
mod measures;
mod ours;
mod polkavm;
mod remote;
mod rounds;
mod table;
mod target;
mod wasmtime;
mod window;

pub use self::chart::chart;
pub use self::figure::{Better, Figure, Other, Quantiles};
pub use self::machine::{configuration, machine};
pub use self::measure::{Failure, Measure, Plan, Ratio, Sampler, Side, Start, Turns, Whole};
pub use self::measures::{TOPICS, Topic};
pub use self::remote::serve;
pub use self::rounds::take;
pub use self::table::table;
pub use self::target::{Of, Target, Verdict};
