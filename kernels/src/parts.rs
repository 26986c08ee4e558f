//! Cutting work into parts for threads.

use rayon::prelude::*;

/// The least number of elements that a part reads and writes. Anything smaller is done before another thread has woken
/// up.
const LEAST: usize = 1 << 15;
/// Parts of a sum: each has a partial of its own.
pub(super) const LANES: usize = 8;

/// How many units of `size` elements make a part that is worth a thread.
pub(super) fn units(size: usize) -> usize {
    (LEAST / size.max(1)).max(1)
}

/// Calls `work` with the number and the elements of each part of `out`, which has `part` of them, the last fewer.
pub(super) fn each<T: Send>(out: &mut [T], part: usize, work: impl Fn(usize, &mut [T]) + Sync + Send) {
    if out.len() <= part || rayon::current_num_threads() == 1 {
        out.chunks_mut(part.max(1)).enumerate().for_each(|(number, out)| work(number, out));
    } else {
        out.par_chunks_mut(part.max(1)).enumerate().for_each(|(number, out)| work(number, out));
    }
}

/// The same with two outputs, which have as many parts.
pub(super) fn each_pair<T: Send, U: Send>(
    (first, part): (&mut [T], usize),
    (second, second_part): (&mut [U], usize),
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    if first.len() <= part || rayon::current_num_threads() == 1 {
        let pairs = first.chunks_mut(part.max(1)).zip(second.chunks_mut(second_part.max(1)));
        pairs.enumerate().for_each(|(number, (first, second))| work(number, first, second));
    } else {
        let pairs = first.par_chunks_mut(part.max(1)).zip(second.par_chunks_mut(second_part.max(1)));
        pairs.enumerate().for_each(|(number, (first, second))| work(number, first, second));
    }
}
