//! A strategy with a memory: what all of them have in common, whatever they fold by.

use super::{
    FoldError, Folded, Round, Strategy,
    memory::{Form, Memory},
    no_state,
};
use crate::weights::Weights;
use std::io::{self, Write};

/// How a fold follows from the memory. It has no state of its own, so on an error everything is as before.
pub(super) trait Remembers: Send {
    /// Its name, and what its memory looks like.
    fn form(&self) -> Form;

    /// The fold, and the new memory. It needn't count folds.
    fn fold(&self, memory: &Memory, round: &Round<'_>) -> Result<(Folded, Memory), FoldError>;

    /// Whether its memory is saved. A rule without memory keeps only x, for differences.
    fn saves(&self) -> bool {
        true
    }

    /// As [`Strategy::takes_steps`].
    fn takes_steps(&self) -> bool;

    /// As [`Strategy::needs_degrees`].
    fn needs_degrees(&self) -> bool {
        false
    }
}

/// A strategy that folds by such a rule, with its memory.
pub(super) struct Remembering<R> {
    rule: R,
    memory: Memory,
}

impl<R: Remembers> Remembering<R> {
    pub(super) fn new(rule: R) -> Self {
        Self { rule, memory: Memory::default() }
    }
}

impl<R: Remembers> Strategy for Remembering<R> {
    fn name(&self) -> &'static str {
        self.rule.form().strategy
    }

    fn begin(&mut self, initial: &Weights) {
        self.memory = Memory { x: Some(initial.clone()), ..Memory::default() };
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        let (folded, memory) = self.rule.fold(&self.memory, round)?;
        self.memory = Memory { folds: self.memory.folds + 1, ..memory };
        Ok(folded)
    }

    fn save(&self) -> Vec<u8> {
        if self.rule.saves() { self.memory.encode(&self.rule.form()) } else { Vec::new() }
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rule.saves() { self.memory.write(&self.rule.form(), out) } else { Ok(()) }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        if self.rule.saves() {
            self.memory = Memory::decode(state, &self.rule.form())?;
            return Ok(());
        }
        no_state(self.name(), state)
    }

    fn folds(&self) -> u64 {
        self.memory.folds
    }

    fn takes_steps(&self) -> bool {
        self.rule.takes_steps()
    }

    fn needs_degrees(&self) -> bool {
        self.rule.needs_degrees()
    }
}
