#![expect(unsafe_code, reason = "moves what is dropped to somebody else")]
//! The end of an instance, which its owner does not wait for.

use std::mem::ManuallyDrop;

use super::Instance;

impl Drop for Instance {
    fn drop(&mut self) {
        // Before the worker is another instance's: a handle of this one's must not stop that.
        self.bell.take_down();
        // SAFETY: nobody uses the field after this, which happens once.
        let started = unsafe { ManuallyDrop::take(&mut self.started) };
        self.engine.take_back(started);
    }
}
