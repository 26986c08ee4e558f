//! A strategy that records its calls and runs a hook before it folds.

use peerfold::{
    strategy::{FoldError, Folded, Round, Strategy, StrategySpec},
    weights::Weights,
};
use std::{
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

type Hook = Box<dyn FnOnce() + Send>;

/// FedAvg with a hook.
pub struct HookedStrategy {
    inner: Box<dyn Strategy>,
    /// Runs once, before the next fold.
    pub before_fold: Arc<Mutex<Option<Hook>>>,
    /// Which method ran on which thread.
    pub calls: Arc<Mutex<Vec<(&'static str, ThreadId)>>>,
}

impl HookedStrategy {
    pub fn new() -> Self {
        let inner = StrategySpec::new("fedavg").build().unwrap();
        Self { inner, before_fold: Arc::default(), calls: Arc::default() }
    }

    fn note(&self, method: &'static str) {
        self.calls.lock().unwrap().push((method, thread::current().id()));
    }
}

impl Strategy for HookedStrategy {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn begin(&mut self, initial: &Weights) {
        self.note("begin");
        self.inner.begin(initial);
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        self.note("fold");
        if let Some(hook) = self.before_fold.lock().unwrap().take() {
            hook();
        }
        self.inner.fold(round)
    }

    fn save(&self) -> Vec<u8> {
        self.note("save");
        self.inner.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        self.note("restore");
        self.inner.restore(state)
    }
}
