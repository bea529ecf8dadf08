//! Gas: how far a guest may go, by its own count.

use std::time::Duration;

use super::Instance;

/// The host looks no more often.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Gas. Generated code decrements the counter at [`abi::GAS`](crate::abi::GAS) and calls
/// [`abi::OUT_OF_GAS`](crate::abi::OUT_OF_GAS) once it is below zero, which is
/// [`Interrupt::OutOfGas`](crate::Interrupt::OutOfGas) (`docs/abi.md`). A new instance has none,
/// and neither has one after a reset or a restore.
///
/// The counter is in memory that the guest can write. Who compiles the guest's code knows that it
/// does not; a guest of which nothing is known can give itself as much as it likes. What holds for
/// every guest is a deadline.
impl Instance {
    /// What is left, as the guest's counter says. Below zero it has used more than it had. A
    /// hostile guest makes any number of it: take care of overflow where you subtract.
    #[must_use]
    pub fn gas(&self) -> i64 {
        if self.started.worker.is_ours() {
            self.started.turn.gas()
        } else {
            0
        }
    }

    /// Sets the counter, while the guest does not run. Nothing happens in a forked child.
    pub fn set_gas(&mut self, gas: i64) {
        if self.started.worker.is_ours() {
            self.started.turn.set_gas(gas);
        }
    }

    /// Has [`run`](Self::run) look at the counter of a guest that runs, this often, at least 1 ms
    /// apart, and stop the guest wherever it is once the counter is below zero: for code that only
    /// counts and never looks. A guest whose counter is below zero is not entered then. One that
    /// does not count is never stopped by this. `None`, the default, leaves looking to the guest.
    pub fn watch_gas(&mut self, interval: impl Into<Option<Duration>>) {
        let interval = interval.into();
        self.gas_interval = interval.map(|interval| interval.max(INTERVAL_MIN));
    }
}
