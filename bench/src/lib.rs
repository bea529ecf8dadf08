//! Guest memory in figures: ours, each beside the machine's own limit and a peer's, measured in one
//! run.
//!
//! ```no_run
//! use bench::{limits, ours, polkavm, table, Topic};
//!
//! let others = limits::MEASURES.iter().chain(&polkavm::MEASURES);
//! let measures: Vec<_> = ours::MEASURES.iter().chain(others).collect();
//! let mut figures = Vec::new();
//! for topic in Topic::ALL {
//!     figures.extend(measures.iter().filter(|measure| measure.topic == topic).map(|m| m.run()));
//! }
//! println!("{}", table(&figures));
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `figure` | what is measured, by whom, and the result |
//! | `table` | the figures side by side |
//! | `ours` | what Cellwall needs |
//! | `limits` | what the bare kernel and the machine need |
//! | `window` | memory that nothing else lives in, for the limits |
//! | `cpus` | a CPU for each side |
//! | `polkavm` | what the peer needs |
//! | `polkavm::guest` | programs for it, and one of its instances that runs them |

mod cpus;
mod figure;
pub mod limits;
pub mod ours;
pub mod polkavm;
mod table;
mod window;

pub use self::figure::{
    Failure, Figure, Measure, Quantiles, Side, Target, Topic, Value, quantiles,
};
pub use self::table::table;
