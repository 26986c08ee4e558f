//! Ctrl-C and SIGTERM: the first asks the program to stop, the second ends it at once.

use crate::node::Stop;
use anyhow::Context;
use std::{io, thread};
use tokio::runtime::Builder;

/// Exit code after a second signal: the one that shells use for an interrupted program.
const INTERRUPTED: i32 = 130;

/// Requests the stop at the first Ctrl-C or SIGTERM; the second one ends the process at once.
pub(crate) fn stop_on_signals(stop: Stop) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("starting the signal thread")?;
    // Registered before this returns, so that no signal finds the default action.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().context("listening for signals")?
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            stop.request();
            signals.next().await;
            std::process::exit(INTERRUPTED);
        });
    })?;
    Ok(())
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
