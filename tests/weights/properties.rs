//! Properties of every layout, manifest, chunk plan and entry, and of bytes that are none of these.

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};
use peerfold::folder::{Author, LocalFolder, MemoryFolder, MemoryStorage, SharedFolder, Value};
use peerfold::weights::*;
use proptest::{collection::vec, prelude::*, sample::Index};
use std::ops::Range;

fn keypair() -> Keypair {
    Keypair::ed25519_from_bytes([1; 32]).unwrap()
}

fn author() -> PeerId {
    keypair().public().to_peer_id()
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::ALL.to_vec())
}

/// Sides that give tensors on both sides of the border of packs, and above one chunk.
fn shape() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        4 => vec(0u64..6, 0..4),
        2 => (8_000u64..70_000).prop_map(|side| vec![side]),
        1 => (1u64..4, 130_000u64..300_000).prop_map(|(a, b)| vec![a, b]),
        1 => Just(vec![1 << 16]),
        1 => Just(vec![(1 << 16) - 1]),
    ]
}

fn specs() -> impl Strategy<Value = Vec<TensorSpec>> {
    prop::collection::btree_map("[a-c]{1,3}|\\PC{0,8}", (dtype(), shape()), 0..24).prop_map(|tensors| {
        tensors.into_iter().map(|(name, (dtype, shape))| TensorSpec { name, dtype, shape }).collect()
    })
}

fn filled(specs: Vec<TensorSpec>, seed: u64) -> Weights {
    let tensor = |(number, spec): (usize, TensorSpec)| {
        let mut data = vec![0; spec.bytes() as usize];
        blake3::Hasher::new().update(&seed.to_le_bytes()).update(&[number as u8]).finalize_xof().fill(&mut data);
        Tensor { spec, data: data.into() }
    };
    Weights::new(specs.into_iter().enumerate().map(tensor).collect()).unwrap()
}

fn weights() -> impl Strategy<Value = Weights> {
    let annotations = prop::collection::btree_map("\\PC{0,8}", any::<String>(), 0..3);
    (specs(), any::<u64>(), annotations).prop_map(|(specs, seed, annotations)| {
        filled(specs, seed).with_annotations(Annotations::new(annotations).unwrap())
    })
}

fn name(longest: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{1,20}".boxed(),
        any::<String>().boxed(),
        (1..=longest).prop_map(|length| "x".repeat(length)).boxed()
    ]
    .prop_filter("too long", move |name| !name.is_empty() && name.len() <= longest)
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let metrics = vec((name(MAX_METRIC_NAME), any::<u64>().prop_map(f64::from_bits)), 0..=MAX_METRICS);
    (any::<u64>(), any::<u64>(), metrics).prop_map(|(epoch, num_examples, metrics)| {
        let metadata = Metadata { epoch, num_examples, metrics: vec![] };
        metadata.with_metrics(metrics.iter().map(|(name, value)| (name.as_str(), *value)))
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let content = prop_oneof![
        (any::<[u8; 32]>(), any::<u64>(), metadata()).prop_map(|(root, length, metadata)| Content::Put {
            root: Root::from_bytes(root),
            length,
            metadata
        }),
        Just(Content::Tombstone),
    ];
    (any::<[u8; 32]>(), any::<[u8; 32]>(), name(75), any::<u64>(), content).prop_map(
        |(federation, layout, name, sequence, content)| Entry {
            federation: FederationId::from_bytes(federation),
            layout: LayoutId::from_bytes(layout),
            key: Key::new(author(), name).unwrap(),
            sequence,
            content,
        },
    )
}

/// What may stand behind an entry's body: flags, and about as much as they ask for.
fn end() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0usize..3, 31usize..36];
    let rest = length.prop_flat_map(|length| vec(any::<u8>(), length));
    let end =
        (prop_oneof![4 => 0u8..4, 1 => any::<u8>()], rest).prop_map(|(flags, rest)| [&[flags], &rest[..]].concat());
    prop_oneof![1 => Just(Vec::new()), 8 => end]
}

fn ranges(layout: &Layout, at: &[(Index, Index, Index)]) -> Vec<(usize, Range<u64>)> {
    let tensors = layout.tensors();
    let range = |(tensor, from, to): &(Index, Index, Index)| {
        let tensor = tensor.index(tensors.len());
        let sides = [from, to].map(|side| side.index(tensors[tensor].bytes() as usize + 1) as u64);
        (tensor, sides[0].min(sides[1])..sides[0].max(sides[1]))
    };
    if tensors.is_empty() { Vec::new() } else { at.iter().map(range).collect() }
}

fn indices() -> impl Strategy<Value = Vec<(Index, Index, Index)>> {
    vec((any::<Index>(), any::<Index>(), any::<Index>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rubbish_is_refused_without_a_panic(bytes in vec(any::<u8>(), 0..1500), version in any::<bool>()) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = if version { 1 } else { 2 };
        }
        // A signature can't be guessed; a manifest can, and is then the canonical one.
        prop_assert!(SignedEntry::decode(&bytes).is_err());
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), &bytes[..]);
        }
        let _ = Weights::from_safetensors(&Bytes::from(bytes));
    }

    #[test]
    fn rubbish_inside_something_real_is_refused_or_canonical(
        weights in weights(), at in any::<Index>(), with in vec(any::<u8>(), 0..12), cut in 0usize..12,
    ) {
        let mut bytes = weights.manifest().encode();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + cut);
        bytes.splice(at..end, with);
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }

    /// What follows the body is ignored if it is the encoding of a value, and refused if it isn't.
    #[test]
    fn what_a_later_version_encodes_is_known_as_such(entry in entry(), end in end()) {
        let signed = SignedEntry::sign(entry.clone(), &keypair()).unwrap();
        let plain = signed.bytes();
        let body = [&plain[..plain.len() - 64], &end[..]].concat();
        let signature = keypair().sign(&[b"peerfold/entry\0", &body[..]].concat()).unwrap();
        let mut bytes = [body, signature].concat();
        let is_encoding = match end.as_slice() {
            [0, ..] | [1] | [3] => false,
            [1, base @ ..] => base.len() == 32,
            [2, number @ ..] => number.len() == 1,
            [3, rest @ ..] => rest.len() == 33,
            _ => true,
        };
        match SignedEntry::decode(&bytes) {
            Ok(decoded) => prop_assert!(end.is_empty() && decoded == signed),
            Err(EntryError::Encoding { key, .. }) => {
                prop_assert!(is_encoding && !end.is_empty() && key == entry.key && entry.root().is_some());
                *bytes.last_mut().unwrap() ^= 1;
                let forged = SignedEntry::decode(&bytes);
                prop_assert!(matches!(forged, Err(EntryError::Signature { .. })), "{:?}", forged);
            }
            Err(EntryError::Malformed) => prop_assert!(!is_encoding || entry.root().is_none()),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn manifests_come_back(weights in weights()) {
        let manifest = weights.manifest();
        let decoded = Manifest::decode(&manifest.encode()).unwrap();
        prop_assert_eq!(&decoded, &manifest);
        prop_assert_eq!(decoded.root(), manifest.root());
        prop_assert_eq!(decoded.annotations(), weights.annotations());
        let plain = weights.clone().with_annotations(Annotations::default()).manifest();
        prop_assert_eq!(plain.root() == manifest.root(), weights.annotations().is_empty());
        prop_assert_eq!(plain.layout().id(), manifest.layout().id());
        let file = Bytes::from(weights.to_safetensors().unwrap());
        let read = Weights::from_safetensors(&file).unwrap();
        prop_assert_eq!(read.annotations(), weights.annotations());
        prop_assert_eq!(read, weights);
    }

    #[test]
    fn order_makes_no_difference(weights in weights(), order in any::<u64>()) {
        let mut tensors: Vec<Tensor> =
            weights.tensors().map(|(spec, data)| Tensor { spec: spec.clone(), data: data.clone() }).collect();
        tensors.sort_by_key(|tensor| *blake3::hash(format!("{order} {}", tensor.spec.name).as_bytes()).as_bytes());
        let shuffled = Weights::new(tensors).unwrap().with_annotations(weights.annotations().clone());
        prop_assert_eq!(shuffled.layout().id(), weights.layout().id());
        prop_assert_eq!(shuffled.manifest().encode(), weights.manifest().encode());
        prop_assert_eq!(shuffled.manifest().root(), weights.manifest().root());
    }

    #[test]
    fn chunks_cover_every_byte_once(weights in weights(), at in indices()) {
        let layout = weights.layout();
        let plan = ChunkPlan::new(layout);
        let mut covered = vec![0; layout.tensors().len()];
        let mut packing = true;
        for (number, pieces) in plan.chunks().iter().enumerate() {
            prop_assert!(plan.length(number) <= CHUNK_BYTES && plan.length(number) > 0);
            let small = pieces.iter().all(|piece| layout.tensors()[piece.tensor].bytes() < PACK_BELOW_BYTES);
            prop_assert!(small || pieces.len() == 1, "a chunk of several tensors that are not small");
            prop_assert!(packing || !small, "a pack after the others");
            packing = small;
            for piece in pieces {
                prop_assert_eq!(piece.range.start, covered[piece.tensor], "not in order, or not once");
                covered[piece.tensor] = piece.range.end;
            }
        }
        let lengths: Vec<u64> = layout.tensors().iter().map(TensorSpec::bytes).collect();
        prop_assert_eq!(covered, lengths);
        // What the plan locates is what the tensor holds.
        let manifest = weights.manifest();
        for (tensor, range) in ranges(layout, &at) {
            let located = plan.locate(tensor, range.clone());
            let found: Vec<u8> = located
                .iter()
                .flat_map(|(chunk, part)| manifest.chunk_bytes(&weights, *chunk).slice(part.start as usize..part.end as usize))
                .collect();
            prop_assert!(found == weights.read(tensor, range).unwrap());
        }
    }

    #[test]
    fn entries_come_back(entry in entry()) {
        let signed = SignedEntry::sign(entry.clone(), &keypair()).unwrap();
        prop_assert!(signed.bytes().len() <= MAX_ENTRY_BYTES);
        let decoded = SignedEntry::decode(signed.bytes()).unwrap();
        prop_assert_eq!(decoded.entry(), &entry);
        prop_assert_eq!(decoded.bytes(), signed.bytes());
        prop_assert_eq!(decoded.hash(), signed.hash());
        prop_assert_eq!(SignedEntry::sign(entry, &keypair()).unwrap(), signed);
    }

    #[test]
    fn prefixes_are_those_of_the_text(entry in entry(), other in any::<u8>(), cut in any::<Index>(), more in "[/ab]{0,2}") {
        let text = entry.key.to_string();
        let cut = (0..=cut.index(text.len() + 1)).rev().find(|&at| text.is_char_boundary(at)).unwrap();
        let prefix = format!("{}{more}", &text[..cut]);
        let signed = std::sync::Arc::new(SignedEntry::sign(entry.clone(), &keypair()).unwrap());
        let mut set = peerfold::entries::EntrySet::new(entry.federation);
        set.insert(signed).unwrap();
        let stranger = Keypair::ed25519_from_bytes([other; 32]).unwrap();
        let key = Key::new(stranger.public().to_peer_id(), "a").unwrap();
        let strange = SignedEntry::sign(Entry { key, sequence: 1, ..entry }, &stranger).unwrap();
        let _ = set.insert(std::sync::Arc::new(strange));
        let expected = set.iter("").filter(|entry| entry.key.to_string().starts_with(&prefix)).count();
        prop_assert_eq!(set.iter(&prefix).count(), expected);
        prop_assert_eq!(set.changed_since(0, &prefix).is_some(), expected > 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_flipped_bit_of_an_entry_is_noticed(entry in entry()) {
        let signed = SignedEntry::sign(entry, &keypair()).unwrap();
        let mut bytes = signed.bytes().to_vec();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(SignedEntry::decode(&bytes).is_err(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn folders_read_what_weights_read(weights in weights(), at in indices()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let signer = || Author::in_memory(keypair(), FederationId::new("properties", "1"));
        let folders: [Box<dyn SharedFolder>; 2] = [
            Box::new(MemoryFolder::new(&MemoryStorage::new(), signer())),
            Box::new(LocalFolder::open(dir.path(), signer()).unwrap()),
        ];
        for folder in folders {
            let value: Value = runtime.block_on(async {
                let entry = folder.put(&Key::update(author(), 1), &weights, Metadata::default()).await.unwrap();
                folder.get(&entry).await.unwrap()
            });
            for (tensor, range) in ranges(weights.layout(), &at) {
                prop_assert!(value.read(tensor, range.clone()).unwrap() == weights.read(tensor, range).unwrap());
            }
            prop_assert!(read_all(&value).unwrap() == weights);
        }
    }
}

#[test]
fn the_largest_entry_fits() {
    let names: Vec<String> = (0..MAX_METRICS).map(|number| format!("{number:0>MAX_METRIC_NAME$}")).collect();
    let metadata = Metadata { epoch: u64::MAX, num_examples: u64::MAX, metrics: vec![] };
    let metadata = metadata.with_metrics(names.iter().map(|name| (name.as_str(), f64::MIN)));
    let entry = Entry {
        federation: FederationId::from_bytes([255; 32]),
        layout: LayoutId::from_bytes([255; 32]),
        key: Key::new(author(), "k".repeat(75)).unwrap(),
        sequence: u64::MAX,
        content: Content::Put { root: Root::from_bytes([255; 32]), length: u64::MAX, metadata },
    };
    assert_eq!(entry.key.to_string().len(), MAX_KEY_BYTES);
    let signed = SignedEntry::sign(entry, &keypair()).unwrap();
    // With every encoding that is assigned.
    assert!(signed.bytes().len() + 34 <= MAX_ENTRY_BYTES, "{}", signed.bytes().len());
}

#[test]
fn layouts_are_bounded() {
    let spec =
        |name: &str, shape: &[u64]| TensorSpec { name: name.to_owned(), dtype: DType::F64, shape: shape.to_vec() };
    let layout = |specs: &[TensorSpec]| Layout::new(specs.to_vec());
    for shape in [&[u64::MAX][..], &[1 << 32, 1 << 32], &[1 << 61], &[u64::MAX, u64::MAX, 2]] {
        assert!(matches!(layout(&[spec("a", shape)]), Err(LayoutError::Overflow { .. })), "{shape:?}");
    }
    assert!(matches!(layout(&[spec("a", &[1 << 33]), spec("b", &[1])]), Err(LayoutError::Limit { .. })));
    assert!(layout(&[spec("a", &[1 << 33])]).is_ok());
    assert!(layout(&[spec("a", &[0, u64::MAX, u64::MAX])]).is_ok_and(|layout| layout.bytes() == 0));
    assert!(matches!(layout(&[spec("a", &[1]), spec("a", &[2])]), Err(LayoutError::DuplicateName { .. })));
    assert!(layout(&[spec("a", &[1; MAX_RANK])]).is_ok());
    assert!(matches!(layout(&[spec("a", &[1; MAX_RANK + 1])]), Err(LayoutError::Limit { .. })));
    assert!(layout(&[spec(&"n".repeat(MAX_TENSOR_NAME), &[])]).is_ok());
    assert!(matches!(layout(&[spec(&"n".repeat(MAX_TENSOR_NAME + 1), &[])]), Err(LayoutError::Limit { .. })));
    let many = |count: usize, width: usize| -> Vec<_> {
        (0..count).map(|number| spec(&format!("{number:0>width$}"), &[0; MAX_RANK])).collect()
    };
    assert!(layout(&many(MAX_TENSORS, 5)).is_ok());
    assert!(matches!(layout(&many(MAX_TENSORS + 1, 5)), Err(LayoutError::Limit { .. })));
    assert!(matches!(layout(&many(MAX_TENSORS, 65)), Err(LayoutError::Limit { .. })));
}

/// However close a layout comes to the limits, its manifest can be read.
#[test]
fn the_largest_manifests_can_be_read() {
    let mut specs: Vec<_> = (0..MAX_TENSORS)
        .map(|number| TensorSpec { name: format!("{number:0>64}"), dtype: DType::U8, shape: vec![0; MAX_RANK] })
        .collect();
    specs.iter_mut().for_each(|spec| spec.shape[1..].fill(u64::MAX));
    let weights = filled(specs, 0);
    let encoded = weights.manifest().encode();
    // With as many chunks as 65,536 tensors in 64 GiB can have, too, and all annotations, each with two lengths.
    let annotations = MAX_ANNOTATION_BYTES + 6 * MAX_ANNOTATIONS;
    assert!(encoded.len() + 2 * MAX_TENSORS * 32 + annotations < MAX_MANIFEST_BYTES, "{}", encoded.len());
    assert_eq!(Manifest::decode(&encoded).unwrap().layout(), weights.layout());
}

/// What claims more than it brings is refused before it is believed.
#[test]
fn claims_are_not_believed() {
    let varint = |mut number: u64| {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    };
    for claim in [1 << 20, 1 << 32, u64::MAX] {
        let claim = varint(claim);
        let tensors = [&[1][..], &claim].concat();
        let name = [&[1, 1][..], &claim].concat();
        let shape = [&[1, 1, 1, b'a', 0][..], &claim].concat();
        let chunks = [&[1, 0][..], &claim].concat();
        for bytes in [tensors, name, shape, chunks] {
            assert!(Manifest::decode(&bytes).is_err());
            assert!(Manifest::decode(&[&bytes[..], &[0; 4096]].concat()).is_err());
        }
    }
    // Many tensors of a few bytes each, which would take twenty times the memory.
    let dense = [&[1][..], &varint(5_000_000), &[0; 15_000_000]].concat();
    assert!(matches!(Manifest::decode(&dense), Err(ManifestError::Layout(LayoutError::Limit { .. }))));
    assert!(matches!(Manifest::decode(&vec![1; MAX_MANIFEST_BYTES + 1]), Err(ManifestError::TooLong { .. })));
    assert!(matches!(Manifest::decode(&[3, 0, 0]), Err(ManifestError::Version { got: 3 })));
    // One tensor, its rank spelt with one byte too many: not canonical.
    assert!(Manifest::decode(&[1, 1, 1, b'a', 0, 0x80, 0x00, 0]).is_err());
}
