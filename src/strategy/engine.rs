//! Running a rule over every piece of a layout, on a few threads.

use super::{FoldError, source::Input};
use crate::weights::{CHUNK_BYTES, ChunkPlan, DType, Layout, Piece, Weights};
use bytes::Bytes;
use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// More don't help: a fold is bound by memory.
const MAX_THREADS: usize = 8;
/// Pieces, each of at most 1 MiB, that all threads together hold of the inputs.
const MAX_PIECES: usize = 256;
/// Bytes that all threads together hold of inputs that can be read in parts. Pieces are cut for the maximum number of
/// threads, so that the actual number doesn't affect the order of any sum.
const HELD_BYTES: u64 = 64 << 20;
/// Shorter parts would cost more than they save.
const LEAST_PART: u64 = 16 << 10;
/// Anything smaller (4 MiB) is done before a thread has started.
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

/// The inputs whose pieces a fold holds at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    count: usize,
    /// Whether all of them can be [read in parts](crate::weights::TensorReader::reads_parts).
    in_parts: bool,
}

impl From<usize> for Held {
    fn from(count: usize) -> Self {
        Self { count, in_parts: false }
    }
}

impl From<&[Input<'_>]> for Held {
    fn from(inputs: &[Input<'_>]) -> Self {
        Self { count: inputs.len(), in_parts: inputs.iter().all(Input::reads_parts) }
    }
}

impl Held {
    /// Most bytes of a piece.
    fn piece_bytes(self) -> u64 {
        let share = HELD_BYTES / (MAX_THREADS * self.count.max(1)) as u64;
        if self.in_parts { share.clamp(LEAST_PART, CHUNK_BYTES) & !63 } else { CHUNK_BYTES }
    }
}

/// One thread's unit of work: the pieces of one chunk, so that a reader of verified chunks is asked for each chunk
/// once, and a pack of small tensors is read by one thread.
struct Item<'o> {
    number: usize,
    /// With the same elements of each plane.
    pieces: Vec<(Piece, Vec<&'o mut [u8]>)>,
}

/// What a thread has done: the partials of each item, or the item that failed.
type Worked<P> = Result<Vec<(usize, Vec<P>)>, (usize, FoldError)>;

/// What [`run`] gives: the buffers of each plane in the layout's order, and what `work` returned for each piece in the
/// order of the [`ChunkPlan`].
pub(super) struct Done<P> {
    pub(super) planes: Vec<Vec<Bytes>>,
    pub(super) partials: Vec<P>,
}

/// Calls `work` for each piece of the layout, with the same elements of the `planes`, which begin as zero; `work` reads
/// that piece of all `inputs`. Each thread has its own scratch memory from `scratch()`. It is an error if `work` writes
/// anything that isn't finite.
///
/// The result doesn't depend on the number of threads, as long as `work` doesn't depend on what its scratch holds. On
/// an error only the error is returned, and the rest isn't done.
pub(super) fn run<S, P: Send>(
    layout: &Layout,
    inputs: impl Into<Held>,
    planes: &[Plane],
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &Piece, &mut [&mut [u8]]) -> Result<P, FoldError> + Sync,
) -> Result<Done<P>, FoldError> {
    let held = inputs.into();
    let processors = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let whole = if held.in_parts { MAX_THREADS } else { (MAX_PIECES / held.count.max(1)).max(1) };
    let threads = if layout.bytes() < SPAWN_ABOVE_BYTES { 1 } else { processors.min(whole) };
    run_on(threads, held.piece_bytes(), layout, planes, scratch, work)
}

/// Makes new weights: calls `work` as [`run`] does, but only for pieces of float tensors, with their dtype, the piece
/// of the weights, and those of the planes `beside` them. What can't be averaged is taken whole from `integers`.
/// Returns the weights and the other planes.
pub(super) fn fold_floats<S>(
    layout: &Arc<Layout>,
    inputs: impl Into<Held>,
    beside: &[Plane],
    integers: Input<'_>,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, DType, &Piece, &mut [u8], &mut [&mut [u8]]) -> Result<(), FoldError> + Sync,
) -> Result<(Weights, std::vec::IntoIter<Vec<Bytes>>), FoldError> {
    let planes: Vec<Plane> = std::iter::once(Plane::Weights).chain(beside.iter().copied()).collect();
    let done = run(layout, inputs, &planes, scratch, |scratch, piece, outputs| {
        let [weights, beside @ ..] = outputs else { unreachable!("the first plane is that of the weights") };
        let dtype = layout.tensors()[piece.tensor].dtype;
        if dtype.is_float() {
            return work(scratch, dtype, piece, weights, beside);
        }
        weights.copy_from_slice(&integers.read(piece)?);
        Ok(())
    })?;
    let mut planes = done.planes.into_iter();
    let folded = planes.next().map(|buffers| weights(layout, buffers));
    Ok((folded.expect("one plane was asked for, and one came"), planes))
}

fn run_on<S, P: Send>(
    threads: usize,
    piece_bytes: u64,
    layout: &Layout,
    planes: &[Plane],
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &Piece, &mut [&mut [u8]]) -> Result<P, FoldError> + Sync,
) -> Result<Done<P>, FoldError> {
    let plan = ChunkPlan::new(layout);
    let zeroed = |plane: &Plane| plane.lengths(layout).map(|bytes| vec![0u8; bytes as usize]).collect();
    let mut buffers: Vec<Vec<Vec<u8>>> = planes.iter().map(zeroed).collect();
    let finished: Vec<Worked<P>> = {
        let items = Mutex::new(items(&plan, piece_bytes, layout, planes, &mut buffers).into_iter());
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        let stop = || items.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
        let worker = || {
            let mut scratch = scratch();
            let mut done = Vec::new();
            while let Some(Item { number, mut pieces }) = next() {
                let mut finite = |piece: &Piece, outputs: &mut Vec<&mut [u8]>| {
                    let partial = work(&mut scratch, piece, outputs)?;
                    let tensor = &layout.tensors()[piece.tensor];
                    let all =
                        planes.iter().zip(outputs).all(|(plane, bytes)| is_finite(plane.dtype(tensor.dtype), bytes));
                    let what = || format!("an element of tensor {tensor}");
                    if all { Ok(partial) } else { Err(FoldError::NotFinite { strategy: "the fold", what: what() }) }
                };
                match pieces.iter_mut().map(|(piece, outputs)| finite(piece, outputs)).collect() {
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

/// Whether no element of these is NaN or infinite: whether no exponent has all bits set.
fn is_finite(dtype: Option<DType>, bytes: &[u8]) -> bool {
    fn none<const N: usize>(bytes: &[u8], special: impl Fn(&[u8; N]) -> bool) -> bool {
        // Block by block without a branch, so that it vectorises.
        bytes.as_chunks::<N>().0.chunks(1024).all(|block| !block.iter().fold(false, |found, e| found | special(e)))
    }
    match dtype {
        Some(DType::F64) => none(bytes, |e: &[u8; 8]| u64::from_le_bytes(*e) << 1 >> 53 == 0x7ff),
        Some(DType::F32) => none(bytes, |e: &[u8; 4]| u32::from_le_bytes(*e) << 1 >> 24 == 0xff),
        Some(DType::F16) => none(bytes, |e: &[u8; 2]| u16::from_le_bytes(*e) & 0x7c00 == 0x7c00),
        Some(DType::BF16) => none(bytes, |e: &[u8; 2]| u16::from_le_bytes(*e) & 0x7f80 == 0x7f80),
        _ => true,
    }
}

/// Cuts the buffers as the plan cuts the tensors, and long pieces into parts.
fn items<'o>(
    plan: &ChunkPlan,
    piece_bytes: u64,
    layout: &Layout,
    planes: &[Plane],
    buffers: &'o mut [Vec<Vec<u8>>],
) -> Vec<Item<'o>> {
    let mut rests: Vec<Vec<&'o mut [u8]>> =
        buffers.iter_mut().map(|plane| plane.iter_mut().map(Vec::as_mut_slice).collect()).collect();
    let mut cut = |piece: &Piece| -> Vec<&'o mut [u8]> {
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
    chunks
        .map(|(number, pieces)| {
            let parts = pieces.iter().flat_map(|piece| {
                let starts = piece.range.clone().step_by(piece_bytes as usize);
                let end = piece.range.end;
                starts.map(move |start| Piece { tensor: piece.tensor, range: start..end.min(start + piece_bytes) })
            });
            let pieces = parts.map(|part| {
                // The pieces of a tensor follow each other.
                let outputs = cut(&part);
                (part, outputs)
            });
            Item { number, pieces: pieces.collect() }
        })
        .collect()
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
                output.fill((piece.range.start / CHUNK_BYTES) as u8 + 10 * plane as u8 + 25 * piece.tensor as u8);
            }
            Ok((piece.tensor, piece.range.start))
        };
        let alone = run_on(1, CHUNK_BYTES, &layout, &planes, || (), work).expect("no error");
        let pieces: Vec<_> = ChunkPlan::new(&layout).chunks().concat();
        assert_eq!(alone.partials, pieces.iter().map(|piece| (piece.tensor, piece.range.start)).collect::<Vec<_>>());
        let lengths = |plane: usize| alone.planes[plane].iter().map(Bytes::len).collect::<Vec<_>>();
        assert_eq!(lengths(0), [2_800_004, 6, 0, 80_000, 2_400_000]);
        assert_eq!(lengths(1), [2_800_004, 12, 0, 0, 2_400_000]);
        assert_eq!(lengths(2), [5_600_008, 24, 0, 0, 2_400_000]);
        for threads in [2, 3, 20] {
            let together = run_on(threads, CHUNK_BYTES, &layout, &planes, || (), work).expect("no error");
            assert_eq!(together.planes, alone.planes);
            assert_eq!(together.partials, alone.partials);
        }
    }

    #[test]
    fn parts_give_the_same_as_whole_pieces() {
        let layout = layout();
        let planes = [Plane::Weights, Plane::Wide];
        let work = |_: &mut (), piece: &Piece, outputs: &mut [&mut [u8]]| {
            outputs.iter_mut().for_each(|output| output.fill(piece.tensor as u8 + 1));
            Ok(piece.range.end - piece.range.start)
        };
        let whole = run_on(1, CHUNK_BYTES, &layout, &planes, || (), work).expect("no error");
        let parts = run_on(2, LEAST_PART, &layout, &planes, || (), work).expect("no error");
        assert_eq!(parts.planes, whole.planes);
        assert!(parts.partials.iter().all(|&bytes| bytes <= LEAST_PART));
        assert_eq!(parts.partials.iter().sum::<u64>(), layout.bytes());
        // Of few inputs, and of those that verify whole chunks, pieces stay whole.
        let held = |count, in_parts| Held { count, in_parts }.piece_bytes();
        assert_eq!((held(8, true), held(1000, false)), (CHUNK_BYTES, CHUNK_BYTES));
        assert_eq!((held(64, true), held(100_000, true)), (128 << 10, LEAST_PART));
    }

    #[test]
    fn what_is_not_finite_is_an_error() {
        let layout = layout();
        for (bits, wrong) in [([0, 0, 0x80, 0x7f], true), ([1, 0, 0x80, 0xff], true), ([0xff, 0xff, 0x7f, 0x7f], false)]
        {
            let done = run_on(
                1,
                CHUNK_BYTES,
                &layout,
                &[Plane::Weights],
                || (),
                |(), piece, outputs| {
                    if piece.tensor == 0 && piece.range.start > 0 {
                        outputs[0][400..404].copy_from_slice(&bits);
                    }
                    Ok(())
                },
            );
            assert_eq!(matches!(done, Err(FoldError::NotFinite { .. })), wrong, "{bits:?}");
        }
    }

    #[test]
    fn an_error_ends_the_run() {
        let failing = |_: &mut (), piece: &Piece, _: &mut [&mut [u8]]| {
            if piece.tensor == 4 { Err(FoldError::NoExamples) } else { Ok(()) }
        };
        for threads in [1, 2] {
            let done = run_on(threads, CHUNK_BYTES, &layout(), &[Plane::Weights], || (), failing);
            assert!(matches!(done, Err(FoldError::NoExamples)));
        }
    }
}
