//! Native guests.
