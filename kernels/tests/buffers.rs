//! Memory that is reused between training steps. A separate test program, because memory is counted for the whole
//! process.
#![allow(missing_docs, clippy::unwrap_used)]

use peerfold_kernels::buffer::{Buffer, held_bytes, release};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

/// Miri takes ten thousand times as long: docs/building.md.
const MIRI: bool = cfg!(miri);

/// One test at a time, each from no memory held.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    release();
    lock
}

/// Numbers below `below` that follow from the state.
fn draw(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

#[test]
fn memory_that_was_dropped_is_taken_up_again() {
    let _alone = alone();
    for len in [4096, 10_000, 65_536, 1_000_001].into_iter().take(if MIRI { 2 } else { 4 }) {
        let first = Buffer::filled(len, 1.0);
        let (place, used) = (first.as_ptr(), held_bytes().0);
        assert!(used >= len * 4);
        drop(first);
        let again = Buffer::stale(len);
        assert_eq!((again.as_ptr(), again.len(), held_bytes().0), (place, len, used));
        assert!(again.iter().all(|&value| value == 1.0));
        drop(again);
        // A few elements fewer are nearly as many.
        assert_eq!(Buffer::stale(len - len % 8 - 1).len(), len - len % 8 - 1);
    }
}

#[test]
fn a_filled_buffer_has_nothing_else_in_it() {
    let _alone = alone();
    for len in [0, 1, 17, 4095, 4096, 4097, 50_000].into_iter().take(if MIRI { 6 } else { 7 }) {
        drop(Buffer::filled(len, f32::NAN));
        let buffer = Buffer::filled(len, 2.5);
        assert_eq!(buffer.len(), len);
        assert!(buffer.iter().all(|&value| value == 2.5));
        assert_eq!(buffer.as_ptr().align_offset(64), 0);
    }
}

#[test]
fn what_one_buffer_holds_no_other_writes() {
    let _alone = alone();
    thread::scope(|scope| {
        for number in 0..if MIRI { 3 } else { 4_u64 } {
            scope.spawn(move || {
                let (mut state, mut live) = (number, Vec::<(Buffer, f32)>::new());
                let most = if MIRI { 3 } else { 12 };
                for step in 0..if MIRI { 12 } else { 600 } {
                    let value = (number * 1000 + step) as f32;
                    let len = [1, 4096, 4100, 100, 5000, 9000, 20_000][draw(&mut state, if MIRI { 3 } else { 7 })];
                    live.push((Buffer::filled(len, value), value));
                    if live.len() > most {
                        let (buffer, value) = live.swap_remove(draw(&mut state, most));
                        assert!(buffer.iter().all(|&element| element == value), "written by another");
                    }
                }
                for (buffer, value) in live {
                    assert!(buffer.iter().all(|&element| element == value), "written by another");
                }
            });
        }
    });
    assert_eq!(held_bytes().0, 0);
}

#[test]
fn what_is_held_is_at_most_half_more_than_was_once_in_use() {
    let _alone = alone();
    let (mut state, mut most, mut live) = (1, 0, Vec::new());
    for step in 0..if MIRI { 100 } else { 5_000 } {
        // The sizes that are needed change as time goes by.
        live.push(Buffer::stale(4096 + draw(&mut state, 64) * 97 + step * 3));
        most = most.max(held_bytes().0);
        while live.len() > draw(&mut state, 24) {
            live.swap_remove(draw(&mut state, live.len()));
        }
        let (used, kept) = held_bytes();
        assert!(used + kept <= most + most / 2, "step {step}: {used} and {kept} where {most} were in use");
    }
    drop(live);
    let (used, kept) = held_bytes();
    assert_eq!(used, 0);
    assert!(kept > 0 && kept <= most + most / 2);
}

#[test]
fn what_is_released_is_no_longer_held() {
    let _alone = alone();
    let live = Buffer::filled(30_000, 3.0);
    drop([Buffer::stale(100_000), Buffer::stale(50_000)]);
    assert!(held_bytes().1 > 0);
    release();
    let (used, kept) = held_bytes();
    assert_eq!(kept, 0);
    assert!((30_000 * 4..30_000 * 5).contains(&used));
    assert!(live.iter().all(|&value| value == 3.0));
    drop(live);
    assert_eq!(held_bytes().0, 0);
}

#[test]
fn an_empty_buffer_holds_nothing() {
    let _alone = alone();
    let empty = Buffer::stale(0);
    assert!(empty.is_empty());
    assert_eq!(held_bytes(), (0, 0));
}
