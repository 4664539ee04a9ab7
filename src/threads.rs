//! A thread with a runtime of its own, on which tasks stay.
//!
//! Owns the start: whoever asks knows whether it came about. Knows nothing of what runs there.

use std::{io, sync::mpsc::sync_channel, thread::JoinHandle};

use tokio::runtime::{Builder, LocalRuntime};

/// Starts a thread of this name that makes a runtime and hands it over.
///
/// # Errors
/// No thread or no runtime can be had.
pub fn with_runtime(
    name: String,
    run: impl FnOnce(LocalRuntime) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (told, started) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        match Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => {
                // The receiver waits for this: it can't be gone.
                let _ = told.send(Ok(()));
                run(runtime);
            }
            Err(error) => drop(told.send(Err(error))),
        }
    })?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
    Ok(thread)
}
