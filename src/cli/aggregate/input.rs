//! `--input FILE=NUM_EXAMPLES[,OPTION]…`

use libp2p_identity::PeerId;
use std::{collections::BTreeSet, path::PathBuf, str::FromStr};

const OPTIONS: &str = "staleness=T, loss=F, delta, degree=D, author=NAME, epoch=E";

/// An update in a file, with its options.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Input {
    pub(super) path: PathBuf,
    pub(super) num_examples: u64,
    pub(super) delta: bool,
    pub(super) epoch: Option<u64>,
    pub(super) staleness: f64,
    pub(super) loss: Option<f64>,
    pub(super) degree: Option<u64>,
    pub(super) author: Option<String>,
}

/// Parses an input. A path may contain what looks like options, so of several readings the first whose file exists
/// counts, or the first if none does.
pub(in crate::cli) fn parse(text: &str) -> Result<Input, String> {
    let mut readings = readings(text);
    if readings.is_empty() {
        return Err("write FILE=NUM_EXAMPLES, like a.safetensors=600".to_owned());
    }
    let there = readings.iter().position(|reading| reading.as_ref().is_ok_and(|input| input.path.exists()));
    readings.swap_remove(there.unwrap_or(0))
}

/// One reading for each `=` followed by a number, from the shortest path to the longest.
fn readings(text: &str) -> Vec<Result<Input, String>> {
    let mut readings = Vec::new();
    for (at, _) in text.match_indices('=').filter(|&(at, _)| at > 0) {
        let mut figures = text[at + 1..].split(',');
        let examples = figures.next().unwrap_or_default();
        if let Some(whole) = whole(examples) {
            readings.push(reading(&text[..at], whole, figures));
        }
    }
    readings
}

/// The digits of a whole number, even if a program wrote it as 600.0.
fn whole(text: &str) -> Option<&str> {
    let (digits, zeros) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str, is: fn(u8) -> bool| !text.is_empty() && text.bytes().all(is);
    (is_number(digits, |byte| byte.is_ascii_digit()) && is_number(zeros, |byte| byte == b'0')).then_some(digits)
}

fn reading<'a>(path: &str, examples: &str, options: impl Iterator<Item = &'a str>) -> Result<Input, String> {
    let mut input = Input {
        path: path.into(),
        num_examples: examples.parse().map_err(|_| format!("{examples} examples are more than can be counted"))?,
        delta: false,
        epoch: None,
        staleness: 0.0,
        loss: None,
        degree: None,
        author: None,
    };
    let mut seen = BTreeSet::new();
    for option in options {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("delta", None) => input.delta = true,
            ("staleness", Some(value)) => {
                input.staleness = number(name, value, "a number from 0", |staleness: &f64| {
                    staleness.is_finite() && *staleness >= 0.0
                })?;
            }
            ("loss", Some(value)) => input.loss = Some(number(name, value, "a number", |_| true)?),
            ("degree", Some(value)) => input.degree = Some(number(name, value, "a whole number from 0", |_| true)?),
            ("epoch", Some(value)) => input.epoch = Some(number(name, value, "a whole number from 0", |_| true)?),
            ("author", Some(value)) if !value.is_empty() => input.author = Some(value.to_owned()),
            _ => return Err(format!("{option:?} is no option of an input; there are {OPTIONS}")),
        }
        if !seen.insert(name) {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(input)
}

fn number<T: FromStr>(name: &str, value: &str, expected: &str, accepts: impl Fn(&T) -> bool) -> Result<T, String> {
    let number = value.parse().ok().filter(accepts);
    number.ok_or_else(|| format!("{name} can't be {value:?}; it is {expected}"))
}

/// An author id for each input. Inputs without a name get ascending ids in order of their places, because strategies go
/// by the order of ids; named ones follow, always with the same id for the same name.
pub(super) fn authors(inputs: &[Input]) -> Result<Vec<PeerId>, String> {
    let mut seen = BTreeSet::new();
    for input in inputs {
        if let Some(name) = input.author.as_ref().filter(|name| !seen.insert(*name)) {
            return Err(format!("--input {}: the author {name:?} has another input already", input.path.display()));
        }
    }
    let author = |(place, input): (usize, &Input)| match &input.author {
        None => {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(place as u64).to_be_bytes());
            peer_id(key)
        }
        Some(name) => {
            let mut key = blake3::derive_key("peerfold 2026 aggregate author v1", name.as_bytes());
            key[0] |= 0x80;
            peer_id(key)
        }
    };
    Ok(inputs.iter().enumerate().map(author).collect())
}

/// The id of an ed25519 key, whether or not it is one: what stands before its bytes is the same in all of them.
fn peer_id(key: [u8; 32]) -> PeerId {
    let id = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &key].concat();
    PeerId::from_bytes(&id).expect("the form of a peer id that holds its key")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use libp2p_identity::Keypair;
    use std::fs;

    fn plain(path: &str, num_examples: u64) -> Input {
        let (delta, epoch, staleness) = (false, None, 0.0);
        Input { path: path.into(), num_examples, delta, epoch, staleness, loss: None, degree: None, author: None }
    }

    #[test]
    fn inputs_that_can_be_read_in_one_way() {
        for (text, expected) in [
            ("a.safetensors=600", plain("a.safetensors", 600)),
            ("a=0", plain("a", 0)),
            ("a.safetensors=600.0", plain("a.safetensors", 600)),
            ("eta=0.5,x/a=b.safetensors=7", plain("eta=0.5,x/a=b.safetensors", 7)),
            ("lr=5/w.safetensors=7", plain("lr=5/w.safetensors", 7)),
            ("a, b=7,staleness=1.5", Input { staleness: 1.5, ..plain("a, b", 7) }),
            ("a=3,staleness=2", Input { staleness: 2.0, ..plain("a", 3) }),
            ("==3", plain("=", 3)),
            (
                "a=3,epoch=4,author=nurse 1,degree=5,loss=-1e-3,delta,staleness=0",
                Input {
                    delta: true,
                    epoch: Some(4),
                    loss: Some(-1e-3),
                    degree: Some(5),
                    author: Some("nurse 1".to_owned()),
                    ..plain("a", 3)
                },
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert!(parse("a=3,loss=nan").unwrap().loss.unwrap().is_nan());
    }

    #[test]
    fn of_several_readings_the_one_whose_file_is_there_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", dir.path().display());
        // Two files that the same text can mean, and one that an option can't be.
        let text = path("a=5,epoch=7");
        assert_eq!(parse(&text), Ok(Input { epoch: Some(7), ..plain(&path("a"), 5) }));
        fs::write(path("a=5,epoch"), "").unwrap();
        assert_eq!(parse(&text), Ok(plain(&path("a=5,epoch"), 7)));
        fs::write(path("a"), "").unwrap();
        assert_eq!(parse(&text), Ok(Input { epoch: Some(7), ..plain(&path("a"), 5) }));
        assert!(parse(&path("a=5,epochs=7")).unwrap_err().contains("\"epochs=7\" is no option"));
        fs::write(path("a=5,epochs"), "").unwrap();
        assert_eq!(parse(&path("a=5,epochs=7")), Ok(plain(&path("a=5,epochs"), 7)));
    }

    #[test]
    fn inputs_that_cannot_be() {
        for (text, part) in [
            ("a.safetensors", "FILE=NUM_EXAMPLES"),
            ("a.safetensors=", "FILE=NUM_EXAMPLES"),
            ("a.safetensors=-5", "FILE=NUM_EXAMPLES"),
            ("a.safetensors=many", "FILE=NUM_EXAMPLES"),
            ("=5", "FILE=NUM_EXAMPLES"),
            ("", "FILE=NUM_EXAMPLES"),
            ("a=18446744073709551616", "more than can be counted"),
            ("a=5,", "\"\" is no option"),
            ("a=5,delta=1", "\"delta=1\" is no option"),
            ("a=5,staleness", "\"staleness\" is no option"),
            ("a=5,stalenes=3", "\"stalenes=3\" is no option"),
            ("a=5,author=", "\"author=\" is no option"),
            ("a=5,staleness=-1", "staleness can't be \"-1\""),
            ("a=5,staleness=inf", "staleness can't be \"inf\""),
            ("a=5,staleness=nan", "staleness can't be \"nan\""),
            ("a=5,loss=low", "loss can't be \"low\""),
            ("a=5,degree=1.5", "degree can't be \"1.5\""),
            ("a=5,epoch=-1", "epoch can't be \"-1\""),
            ("a=5,delta,delta", "delta is given twice"),
            ("a=5,epoch=1,epoch=2", "epoch is given twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {part} is not in: {error}");
        }
    }

    #[test]
    fn authors_stand_in_the_order_of_their_places() {
        let named = |name: &str| Input { author: Some(name.to_owned()), ..plain("x", 1) };
        let inputs: Vec<Input> = (0..600).map(|_| plain("x", 1)).chain(["a", "b", "ü"].map(named)).collect();
        let ids = authors(&inputs).unwrap();
        assert!(ids[..600].is_sorted_by(|a, b| a < b));
        assert!(ids[600..].iter().all(|named| *named > ids[599]));
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), inputs.len());
        assert_eq!(authors(&[named("ü"), plain("y", 2)]).unwrap(), [ids[602], ids[1]]);
        assert!(authors(&[named("a"), named("b"), named("a")]).unwrap_err().contains("\"a\""));
        // They are as long as those of nodes.
        let node = Keypair::ed25519_from_bytes([1; 32]).unwrap().public().to_peer_id();
        assert_eq!(node.to_bytes()[..6], ids[0].to_bytes()[..6]);
        assert_eq!(node.to_bytes().len(), ids[600].to_bytes().len());
    }
}
