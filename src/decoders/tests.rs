//! Tries every decoder with what this program writes, with seeded changes of that, and with what has once failed.
//!
//! `PEERFOLD_FUZZ=N` makes it N changes of each, `PEERFOLD_FUZZ=10s` as many as fit into ten seconds, and
//! `PEERFOLD_FUZZ_ONLY=NAME` tries one alone.
#![allow(clippy::unwrap_used)]

mod changes;
mod regressions;

use super::{Target, targets};
use changes::Changes;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeSet,
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    time::{Duration, Instant},
};

/// Changes of each target's seeds where nothing else is said.
const CHANGES: u64 = 800;
/// What a decoder may hold for each byte of its input, and beside that: serde reserves up to a mebibyte for a list on
/// the word of its length, and there are lists of lists.
const PER_BYTE: usize = 64;
const BESIDE: usize = 4 << 20;

thread_local! {
    /// Bytes that this thread has allocated and not freed, and the most there were.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn count(bytes: isize) {
    // Threads that end may free something after their locals.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: all is the system's allocator; what is counted allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Bytes that a call held at most.
fn most_held(call: impl FnOnce()) -> usize {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    call();
    HELD.with(|held| (held.get().1 - before).max(0) as usize)
}

/// Why a target fails with this input, if it does.
fn failure(target: &Target, input: &[u8]) -> Option<String> {
    let mut held = 0;
    let run = panic::catch_unwind(AssertUnwindSafe(|| held = most_held(|| (target.run)(input))));
    if let Err(panicked) = run {
        let text = panicked.downcast_ref::<String>().cloned();
        return Some(text.or(panicked.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default());
    }
    let allowed = BESIDE + PER_BYTE * input.len();
    (held > allowed).then(|| format!("it held {held} bytes for {} of input", input.len()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn no_bytes_break_a_decoder() {
    let asked = env::var("PEERFOLD_FUZZ").unwrap_or_else(|_| CHANGES.to_string());
    let (changes, time) = match asked.strip_suffix('s') {
        Some(seconds) => (u64::MAX, Duration::from_secs(seconds.parse().unwrap())),
        None => (asked.parse().unwrap(), Duration::MAX),
    };
    let only = env::var("PEERFOLD_FUZZ_ONLY").ok();
    let mut failures = Vec::new();
    for target in targets().iter().filter(|target| only.as_ref().is_none_or(|only| only == target.name)) {
        let began = Instant::now();
        let seeds = (target.seeds)();
        assert_eq!((target.seeds)(), seeds, "the seeds of {} are not the same every time", target.name);
        let of_target =
            regressions::ALL.iter().filter(|(name, _)| *name == target.name).map(|(_, input)| input.to_vec());
        let whole = seeds.iter().cloned().chain(of_target).enumerate();
        let mut source = Changes::new(target.name, &seeds);
        let mut tried = 0;
        let changed = (0..changes).map_while(|number| {
            if began.elapsed() >= time {
                return None;
            }
            tried += 1;
            Some((number as usize, source.next(number)))
        });
        let whole = whole.map(|(number, input)| ("seed", number, input));
        let inputs = whole.chain(changed.map(|(number, input)| ("change", number, input)));
        let mut told = BTreeSet::new();
        for (kind, number, input) in inputs {
            let Some(what) = failure(target, &input) else { continue };
            // Of what fails in one way, once.
            let short: String = what.chars().filter(|c| c.is_alphabetic()).take(24).collect();
            if told.insert(short) {
                failures.push(format!("{} {kind} {number}: {what:.600}\n  {}", target.name, hex(&input)));
            }
            if told.len() > 8 {
                break;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{:20} {:4} seeds, {tried:8} changes, {seconds:.1} s", target.name, seeds.len());
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_seed_is_small_and_every_name_is_once() {
    let targets = targets();
    let names: BTreeSet<&str> = targets.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), targets.len());
    for target in &targets {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        let longest = seeds.iter().map(Vec::len).max().unwrap_or_default();
        assert!(longest <= 128 << 10, "{}: {longest}", target.name);
    }
    for (name, _) in regressions::ALL {
        assert!(names.contains(name), "{name}");
    }
}

/// cargo-fuzz has one program for each.
#[test]
fn cargo_fuzz_has_them_all() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    let named = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let named: BTreeSet<&str> = named.filter(|name| *name != "peerfold-fuzz").collect();
    let targets = targets();
    assert_eq!(named, targets.iter().map(|target| target.name).collect());
}

/// Writes the seeds where cargo-fuzz looks for them: `cargo test --lib write_the_corpus -- --ignored`.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn write_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in targets() {
        let dir = corpus.join(target.name);
        fs::create_dir_all(&dir).unwrap();
        let failed = regressions::ALL.iter().filter(|(name, _)| *name == target.name).map(|(_, input)| input.to_vec());
        for input in (target.seeds)().into_iter().chain(failed) {
            fs::write(dir.join(&blake3::hash(&input).to_hex()[..16]), input).unwrap();
        }
    }
}
