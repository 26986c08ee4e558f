//! A language model over token ids: no classifier, no images, no burn.

use peerfold::prelude::*;
use std::io::{Read, Write};

/// More tokens than a byte can name.
pub(crate) const TOKENS: usize = 300;
pub(crate) const STEPS: u64 = 20;
const LEARNING_RATE: f32 = 2.0;

/// Predicts the next token from the one before: a row of logits for each token, learnt by gradient descent. The state
/// besides the weights is how often each row was trained, by which its steps shrink.
#[derive(Clone)]
pub(crate) struct Bigrams {
    logits: Vec<f32>,
    counts: Vec<u32>,
    /// The text's part that this node has.
    text: Vec<usize>,
}

/// A language in which each token has one successor.
fn successor(token: usize) -> usize {
    (token * 7 + 3) % TOKENS
}

/// What each of `parts` nodes has of the language, part by part of the tokens.
pub(crate) fn text(part: usize, parts: usize) -> Vec<usize> {
    (0..TOKENS).filter(|token| token % parts == part).collect()
}

impl Bigrams {
    pub(crate) fn new(text: Vec<usize>) -> Self {
        Self { logits: vec![0.0; TOKENS * TOKENS], counts: vec![0; TOKENS], text }
    }

    /// The probabilities of what follows.
    fn predict(&self, token: usize) -> Vec<f32> {
        let row = &self.logits[token * TOKENS..][..TOKENS];
        let exponentials: Vec<f32> = row.iter().map(|logit| logit.exp()).collect();
        let sum: f32 = exponentials.iter().sum();
        exponentials.into_iter().map(|exponential| exponential / sum).collect()
    }

    /// A pass over a few tokens. Gives the mean loss before it.
    fn step(&mut self, number: u64) -> f64 {
        let batch: Vec<usize> = self.text.iter().copied().skip(number as usize % 3).step_by(3).collect();
        let mut loss = 0.0;
        for &token in &batch {
            let mut gradient = self.predict(token);
            loss -= f64::from(gradient[successor(token)].ln());
            gradient[successor(token)] -= 1.0;
            let rate = LEARNING_RATE / (1.0 + self.counts[token] as f32 / 50.0);
            let row = &mut self.logits[token * TOKENS..][..TOKENS];
            row.iter_mut().zip(gradient).for_each(|(logit, gradient)| *logit -= rate * gradient);
            self.counts[token] += 1;
        }
        loss / batch.len() as f64
    }

    /// Of the whole language.
    pub(crate) fn perplexity(&self) -> f64 {
        let loss = |token| -f64::from(self.predict(token)[successor(token)].ln());
        ((0..TOKENS).map(loss).sum::<f64>() / TOKENS as f64).exp()
    }
}

impl Learner for Bigrams {
    fn weights(&mut self) -> Result<Weights, LearnerError> {
        Ok(Weights::from_f32s(&[("logits", &[TOKENS as u64, TOKENS as u64], &self.logits)])?)
    }

    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError> {
        self.logits = weights.f32s("logits").ok_or("no logits")?;
        Ok(())
    }

    fn train(&mut self, epoch: u64, before: Steps, pause: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError> {
        let mut steps = before;
        while steps.done < STEPS {
            if pause() {
                steps.interrupted = true;
                break;
            }
            steps.loss_sum += self.step(epoch * STEPS + steps.done);
            steps.done += 1;
        }
        Ok(Trained { steps, ..Trained::on(self.text.len() as u64) })
    }

    fn evaluate(&mut self) -> Result<Metrics, LearnerError> {
        Ok(Metrics::from([("perplexity".to_owned(), self.perplexity())]))
    }

    fn save(&mut self, out: &mut dyn Write) -> Result<(), LearnerError> {
        Ok(self.counts.iter().try_for_each(|count| out.write_all(&count.to_le_bytes()))?)
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), LearnerError> {
        let mut saved = vec![[0; 4]; TOKENS];
        from.read_exact(saved.as_flattened_mut())?;
        self.counts = saved.into_iter().map(u32::from_le_bytes).collect();
        Ok(())
    }
}
