//! Running a rule over every piece of a layout, on a few threads.

use super::FoldError;
use crate::weights::{CHUNK_BYTES, ChunkPlan, DType, Layout, Piece, Weights};
use bytes::Bytes;
use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// More don't help: a fold waits for memory.
const MAX_THREADS: usize = 8;
/// Pieces, each of at most 1 MiB, that all threads together hold of the inputs.
const MAX_PIECES: usize = 256;
/// What is smaller (4 MiB) is done before a thread has started.
const SPAWN_ABOVE_BYTES: u64 = 4 << 20;

/// A set of buffers, one for each tensor of the layout, that a fold fills beside or instead of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// The weights themselves, in the tensors' dtypes.
    Weights,
    /// A moment of each coordinate that is averaged: f64 for an f64 tensor, else f32. Integer tensors have none.
    Moment,
    /// A number for each coordinate that is averaged, in f64. Integer tensors have none.
    Wide,
}

impl Plane {
    /// The type of this plane's elements for a tensor of this dtype.
    pub(super) fn dtype(self, tensor: DType) -> Option<DType> {
        match self {
            Plane::Weights => Some(tensor),
            _ if !tensor.is_float() => None,
            Plane::Moment if tensor != DType::F64 => Some(DType::F32),
            Plane::Moment | Plane::Wide => Some(DType::F64),
        }
    }

    /// Bytes of one element, 0 where there is none.
    fn width(self, tensor: DType) -> usize {
        self.dtype(tensor).map_or(0, |dtype| dtype.size() as usize)
    }

    /// Bytes of the buffer for each tensor.
    pub(super) fn lengths(self, layout: &Layout) -> impl Iterator<Item = u64> {
        layout.tensors().iter().map(move |tensor| tensor.elements() * self.width(tensor.dtype) as u64)
    }

    /// The bytes of this plane that belong to a piece of the weights.
    pub(super) fn part(self, layout: &Layout, buffers: &[Bytes], piece: &Piece) -> Bytes {
        let dtype = layout.tensors()[piece.tensor].dtype;
        let at = |byte: u64| (byte / dtype.size()) as usize * self.width(dtype);
        buffers[piece.tensor].slice(at(piece.range.start)..at(piece.range.end))
    }
}

/// What one thread does at a time: the pieces of one chunk, so that a reader made of verified chunks is asked for each
/// chunk once, and for a pack of small tensors by one thread.
struct Item<'a, 'o> {
    number: usize,
    pieces: &'a [Piece],
    /// For each piece the same elements of each plane.
    outputs: Vec<Vec<&'o mut [u8]>>,
}

/// What a thread has done: the partials of each item, or the item that failed.
type Worked<P> = Result<Vec<(usize, Vec<P>)>, (usize, FoldError)>;

/// What [`run`] gives: the buffers of each plane in the layout's order, and what `work` returned for each piece in the
/// order of the [`ChunkPlan`].
pub(super) struct Done<P> {
    pub(super) planes: Vec<Vec<Bytes>>,
    pub(super) partials: Vec<P>,
}

/// Calls `work`, which reads the piece of `inputs` inputs at once, for each piece of the layout with the same elements
/// of the `planes`, which are zero before. Each thread has its own scratch memory of `scratch()`.
///
/// The result doesn't depend on the number of threads, as long as `work` doesn't on what its scratch holds. On an error
/// nothing comes back but the error, and the rest is left undone.
pub(super) fn run<S, P: Send>(
    layout: &Layout,
    inputs: usize,
    planes: &[Plane],
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &Piece, &mut [&mut [u8]]) -> Result<P, FoldError> + Sync,
) -> Result<Done<P>, FoldError> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let processors = processors.min(MAX_PIECES / inputs.max(1)).max(1);
    let threads = if layout.bytes() < SPAWN_ABOVE_BYTES { 1 } else { processors };
    run_on(threads, layout, planes, scratch, work)
}

fn run_on<S, P: Send>(
    threads: usize,
    layout: &Layout,
    planes: &[Plane],
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &Piece, &mut [&mut [u8]]) -> Result<P, FoldError> + Sync,
) -> Result<Done<P>, FoldError> {
    let plan = ChunkPlan::new(layout);
    let zeroed = |plane: &Plane| plane.lengths(layout).map(|bytes| vec![0u8; bytes as usize]).collect();
    let mut buffers: Vec<Vec<Vec<u8>>> = planes.iter().map(zeroed).collect();
    let finished: Vec<Worked<P>> = {
        let items = Mutex::new(items(&plan, layout, planes, &mut buffers).into_iter());
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        let stop = || items.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
        let worker = || {
            let mut scratch = scratch();
            let mut done = Vec::new();
            while let Some(Item { number, pieces, mut outputs }) = next() {
                let pieces = pieces.iter().zip(&mut outputs);
                match pieces.map(|(piece, outputs)| work(&mut scratch, piece, outputs)).collect() {
                    Ok(partials) => done.push((number, partials)),
                    Err(error) => {
                        stop();
                        return Err((number, error));
                    }
                }
            }
            Ok(done)
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(plan.chunks().len())).map(|_| scope.spawn(worker)).collect();
            let mut finished = vec![worker()];
            for other in others {
                finished.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            finished
        })
    };
    let (mut partials, mut first_error) = (Vec::new(), None);
    for worked in finished {
        match worked {
            Ok(done) => partials.extend(done),
            Err((number, _)) if first_error.as_ref().is_some_and(|&(first, _)| first < number) => {}
            Err(error) => first_error = Some(error),
        }
    }
    if let Some((_, error)) = first_error {
        return Err(error);
    }
    partials.sort_by_key(|&(number, _)| number);
    Ok(Done {
        planes: buffers.into_iter().map(|plane| plane.into_iter().map(Bytes::from).collect()).collect(),
        partials: partials.into_iter().flat_map(|(_, partials)| partials).collect(),
    })
}

/// Cuts the buffers as the plan cuts the tensors.
fn items<'a, 'o>(
    plan: &'a ChunkPlan,
    layout: &Layout,
    planes: &[Plane],
    buffers: &'o mut [Vec<Vec<u8>>],
) -> Vec<Item<'a, 'o>> {
    let mut rests: Vec<Vec<&'o mut [u8]>> =
        buffers.iter_mut().map(|plane| plane.iter_mut().map(Vec::as_mut_slice).collect()).collect();
    let mut cut = |piece: &Piece| -> Vec<&'o mut [u8]> {
        debug_assert!(piece.range.start.is_multiple_of(CHUNK_BYTES), "pieces of a tensor follow each other");
        let dtype = layout.tensors()[piece.tensor].dtype;
        let elements = ((piece.range.end - piece.range.start) / dtype.size()) as usize;
        let planes = planes.iter().zip(&mut rests);
        planes
            .map(|(plane, rests)| {
                let rest = std::mem::take(&mut rests[piece.tensor]);
                let (part, rest) = rest.split_at_mut(elements * plane.width(dtype));
                rests[piece.tensor] = rest;
                part
            })
            .collect()
    };
    let chunks = plan.chunks().iter().enumerate();
    chunks.map(|(number, pieces)| Item { number, pieces, outputs: pieces.iter().map(&mut cut).collect() }).collect()
}

/// The buffers of a [`Plane::Weights`] as weights.
pub(super) fn weights(layout: &Arc<Layout>, plane: Vec<Bytes>) -> Weights {
    Weights::from_layout(layout.clone(), plane).expect("the buffers were made for this layout")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::TensorSpec;

    /// A layout with packs, large tensors and an empty one.
    fn layout() -> Layout {
        let tensor = |name: &str, dtype, side| TensorSpec { name: name.to_owned(), dtype, shape: vec![side] };
        let tensors = vec![
            tensor("a", DType::F32, 700_001),
            tensor("b", DType::F16, 3),
            tensor("c", DType::F64, 0),
            tensor("d", DType::I64, 10_000),
            tensor("e", DType::F64, 300_000),
        ];
        Layout::new(tensors).expect("a layout")
    }

    #[test]
    fn the_number_of_threads_is_of_no_consequence() {
        let layout = layout();
        let planes = [Plane::Weights, Plane::Moment, Plane::Wide];
        let work = |_: &mut (), piece: &Piece, outputs: &mut [&mut [u8]]| {
            for (plane, output) in outputs.iter_mut().enumerate() {
                output.fill((piece.range.start / CHUNK_BYTES) as u8 + 10 * plane as u8 + 40 * piece.tensor as u8);
            }
            Ok((piece.tensor, piece.range.start))
        };
        let alone = run_on(1, &layout, &planes, || (), work).expect("no error");
        let pieces: Vec<_> = ChunkPlan::new(&layout).chunks().concat();
        assert_eq!(alone.partials, pieces.iter().map(|piece| (piece.tensor, piece.range.start)).collect::<Vec<_>>());
        let lengths = |plane: usize| alone.planes[plane].iter().map(Bytes::len).collect::<Vec<_>>();
        assert_eq!(lengths(0), [2_800_004, 6, 0, 80_000, 2_400_000]);
        assert_eq!(lengths(1), [2_800_004, 12, 0, 0, 2_400_000]);
        assert_eq!(lengths(2), [5_600_008, 24, 0, 0, 2_400_000]);
        for threads in [2, 3, 20] {
            let together = run_on(threads, &layout, &planes, || (), work).expect("no error");
            assert_eq!(together.planes, alone.planes);
            assert_eq!(together.partials, alone.partials);
        }
    }

    #[test]
    fn an_error_ends_the_run() {
        let failing = |_: &mut (), piece: &Piece, _: &mut [&mut [u8]]| {
            if piece.tensor == 4 { Err(FoldError::NoExamples) } else { Ok(()) }
        };
        for threads in [1, 2] {
            let done = run_on(threads, &layout(), &[Plane::Weights], || (), failing);
            assert!(matches!(done, Err(FoldError::NoExamples)));
        }
    }
}
