//! Each layer of the wall alone. The system call filter stops everything first, so that nobody
//! would see a broken layer behind it: here each one is attacked in a worker that has no other.
//!
//! An [`Attack`](attack::Attack) is tried twice: first without its layer, where it has to get
//! through, or it would prove nothing; then with its layer alone, which has to stop it in the way
//! that the table says. This takes a build that can leave layers out: `cargo xtask layers`.

#[cfg(cellwall_layer_switch)]
mod attack;
#[cfg(cellwall_layer_switch)]
mod cpu;
#[cfg(cellwall_layer_switch)]
mod fences;
#[cfg(cellwall_layer_switch)]
mod files;
#[cfg(cellwall_layer_switch)]
mod host;
#[cfg(cellwall_layer_switch)]
mod leaves;
#[cfg(cellwall_layer_switch)]
mod life;
#[cfg(cellwall_layer_switch)]
mod memory;
#[cfg(cellwall_layer_switch)]
mod namespaces;
#[cfg(cellwall_layer_switch)]
mod privileges;
#[cfg(cellwall_layer_switch)]
mod processes;
#[cfg(cellwall_layer_switch)]
mod sockets;
#[cfg(cellwall_layer_switch)]
mod tables;
#[cfg(cellwall_layer_switch)]
mod worker;

/// Without the switch there is nothing that could be left out.
#[cfg(not(cellwall_layer_switch))]
#[test]
fn needs_a_build_of_its_own() {
    panic!("`cargo xtask layers` builds and runs these tests");
}
