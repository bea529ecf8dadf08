//! The conversation under every schedule, under a race, and under scripts that once went wrong.

mod model;
mod race;
mod replay;
mod room;
mod seats;
mod spin;
mod twin;
