//! Memory that goes from step to step.
//!
//! A training step needs the same few sizes again and again. Memory fresh from the system is mapped page by page when
//! it is first touched, which costs as much as the computation in it. So dropped buffers are kept for the next request
//! of their size.

use aligned_vec::{AVec, ConstAlign};
use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A cache line, and the widest vector.
const ALIGNMENT: usize = 64;
/// Elements (16 KiB) below which the allocator is as quick, and keeps its pages.
const POOLED_ABOVE: usize = 4096;

type Memory = AVec<f32, ConstAlign<ALIGNMENT>>;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: VecDeque::new(), free_elements: 0, used: 0, most: 0 });

/// A slice of f32 whose memory is reused after it is dropped.
pub struct Buffer {
    memory: Memory,
    len: usize,
}

impl Buffer {
    /// `len` elements of any finite or other value: for what is written before it is read.
    pub fn stale(len: usize) -> Self {
        let capacity = capacity(len);
        let memory = if capacity < POOLED_ABOVE { None } else { pool().take(capacity) };
        Self { memory: memory.unwrap_or_else(|| aligned_vec::avec![[ALIGNMENT]| 0.0; capacity]), len }
    }

    /// `len` times this value.
    pub fn filled(len: usize, value: f32) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fill(value);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, AVec::new(ALIGNMENT));
        if memory.len() >= POOLED_ABOVE {
            // What the pool doesn't keep is freed after its lock is released.
            let _freed = pool().give(memory);
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer of {}", self.len)
    }
}

/// Bytes in use and bytes kept for reuse, of this process.
pub fn held_bytes() -> (usize, usize) {
    let pool = pool();
    (pool.used * size_of::<f32>(), pool.free_elements * size_of::<f32>())
}

/// Returns to the system what is kept for reuse, and forgets how much was once needed.
pub fn release() {
    let mut pool = pool();
    let freed = std::mem::take(&mut pool.free);
    (pool.free_elements, pool.most) = (0, pool.used);
    drop(pool);
    drop(freed);
}

/// Rounded up so that nearly equal sizes share memory, at a cost of at most an eighth.
fn capacity(len: usize) -> usize {
    let step = (len / 8 + 1).next_power_of_two() / 2;
    len.next_multiple_of(step.max(ALIGNMENT / size_of::<f32>()))
}

fn pool() -> MutexGuard<'static, Pool> {
    // A panic in between leaves counters that are a little off.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With what is kept, the process never holds more than one and a half times the most it needed at one time. Some slack
/// is needed because different moments need different sizes.
struct Pool {
    /// The most recently freed is at the back: its pages may still be in a cache.
    free: VecDeque<Memory>,
    free_elements: usize,
    used: usize,
    most: usize,
}

impl Pool {
    fn take(&mut self, capacity: usize) -> Option<Memory> {
        self.used += capacity;
        self.most = self.most.max(self.used);
        let place = self.free.iter().rposition(|memory| memory.len() == capacity);
        let memory = place.and_then(|place| self.free.remove(place));
        match &memory {
            Some(memory) => self.free_elements -= memory.len(),
            None => drop(self.shrink()),
        }
        memory
    }

    fn give(&mut self, memory: Memory) -> Vec<Memory> {
        self.used = self.used.saturating_sub(memory.len());
        self.free_elements += memory.len();
        self.free.push_back(memory);
        self.shrink()
    }

    /// The longest unused go first.
    fn shrink(&mut self) -> Vec<Memory> {
        let mut freed = Vec::new();
        while self.free_elements > 0 && self.used + self.free_elements > self.most + self.most / 2 {
            let Some(memory) = self.free.pop_front() else { break };
            self.free_elements -= memory.len();
            freed.push(memory);
        }
        freed
    }
}
