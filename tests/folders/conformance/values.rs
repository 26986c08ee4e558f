//! Conformance: a value that was put comes back, whole or not at all.

use super::*;
use peerfold::folder::StagedFiles;
use peerfold::weights::{CHUNK_BYTES, ReadError, TensorReader};

const MIB: usize = 1 << 20;

pub async fn every_dtype<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let mut tensors = Vec::new();
    for dtype in DType::ALL {
        for shape in [vec![], vec![3], vec![2, 5], vec![4, 0, 2], vec![0], vec![1; 8], vec![200, 100]] {
            let spec = TensorSpec { name: format!("{dtype}{shape:?}"), dtype, shape };
            let bytes = spec.bytes() as usize;
            // Any bits are a tensor's, NaN among them; a boolean has two.
            let bits = if dtype == DType::Bool { 2 } else { 256 };
            let data: Vec<u8> = (0..bytes).map(|at| ((at * 131 + bytes) % bits) as u8).collect();
            tensors.push(Tensor { spec, data: data.into() });
        }
    }
    let weights = Weights::new(tensors).unwrap();
    let metadata = Metadata { epoch: 3, num_examples: 60_000, metrics: vec![] };
    let metadata = metadata.with_metrics([("loss", f64::NAN), ("accuracy", 0.5), ("-inf", f64::NEG_INFINITY)]);
    let entry = writer.put(&Key::update(peer(1), 3), &weights, metadata.clone()).await.unwrap();
    assert_eq!(entry.metadata(), Some(&metadata));
    assert_eq!((entry.layout, entry.root()), (weights.layout().id(), Some(weights.manifest().root())));
    assert_eq!(entry.federation, federation());
    learn(&*reader, &entry).await;
    assert_eq!(reader.list("").await.unwrap(), [entry.clone()]);
    let value = reader.get(&entry).await.unwrap();
    assert_eq!(value.manifest(), &weights.manifest());
    for _ in 0..2 {
        assert_eq!(fetch(&*reader, &entry).await.unwrap(), weights);
    }
    // NaN among the metrics doesn't make it another update.
    assert_eq!(writer.put(&entry.key, &weights, metadata).await.unwrap(), entry);
}

pub async fn empty_values<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let values = [artifact(""), Weights::new(vec![]).unwrap(), artifact("x")];
    for (name, value) in ["nothing", "no tensors", "one byte"].iter().zip(&values) {
        let entry = writer.put(&key(1, name), value, Metadata::default()).await.unwrap();
        learn(&*reader, &entry).await;
        assert_eq!(fetch(&*reader, &entry).await.unwrap(), *value);
    }
    assert_eq!(reader.list("").await.unwrap().len(), 3);
}

pub async fn a_staged_value_is_shown_when_it_is_put<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let (value, length) = (numbered(1), numbered(1).layout().bytes());
    let staged = writer.stage(&value).await.unwrap();
    assert_eq!(*staged.manifest(), value.manifest());
    // The folder doesn't clean it up because of what the author publishes in the meantime.
    for number in 2..5 {
        let entry = writer.put(&key(1, "other"), &numbered(number), Metadata::default()).await.unwrap();
        learn(&*reader, &entry).await;
        assert_eq!(reader.list("").await.unwrap(), [entry]);
    }
    let chunks: Vec<Vec<u8>> = match staged.files() {
        StagedFiles::None => Vec::new(),
        StagedFiles::Whole { path, start } => vec![std::fs::read(path).unwrap().split_off(*start as usize)],
        StagedFiles::Chunks(paths) => paths.iter().map(|path| std::fs::read(path).unwrap()).collect(),
    };
    let manifest = value.manifest();
    let expected = (0..manifest.chunks().len()).flat_map(|chunk| manifest.chunk_bytes(&value, chunk).to_vec());
    assert!(*staged.files() == StagedFiles::None || chunks.concat() == expected.collect::<Vec<u8>>());
    let before = writer.figures().traffic.written;
    let entry = writer.put(&key(1, "staged"), &value, epoch(1)).await.unwrap();
    assert!(writer.figures().traffic.written <= before + length + 2000);
    drop(staged);
    learn(&*reader, &entry).await;
    assert_eq!(fetch(&*reader, &entry).await.unwrap(), value);
}

pub async fn list_moves_no_value<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let value = artifact(vec![7; 8 * MIB]);
    let entry = writer.put(&key(1, "big"), &value, epoch(4)).await.unwrap();
    assert!(writer.figures().traffic.written >= 8 * MIB as u64);
    learn(&*reader, &entry).await;
    for _ in 0..10 {
        let listed = reader.list("").await.unwrap();
        assert_eq!(listed[0].metadata(), Some(&epoch(4)));
        let Content::Put { length, .. } = listed[0].content else { panic!("a tombstone") };
        assert_eq!(length, 8 * MIB as u64);
    }
    assert!(reader.figures().traffic.read < MIB as u64, "{:?}", reader.figures().traffic);
    fetch(&*reader, &entry).await.unwrap();
    assert!(reader.figures().traffic.read >= 8 * MIB as u64);
}

pub async fn a_large_value<H: Harness>() {
    const BYTES: usize = 256 * MIB;
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let mut bytes = vec![0; BYTES];
    for (number, page) in bytes.chunks_exact_mut(4096).enumerate() {
        page[..8].copy_from_slice(&number.to_le_bytes());
    }
    let value = artifact(bytes);
    let entry = writer.put(&key(1, "large"), &value, Metadata::default()).await.unwrap();
    learn(&*reader, &entry).await;
    let handle = reader.get(&entry).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let expected = value.artifact_bytes().unwrap();
        for start in (0..BYTES).step_by(CHUNK_BYTES as usize) {
            let end = start + CHUNK_BYTES as usize;
            assert!(handle.read(0, start as u64..end as u64).unwrap() == expected[start..end]);
        }
        for (start, end) in [(5, 3 * MIB + 1), (BYTES - 1, BYTES), (MIB - 1, MIB + 1), (MIB, MIB)] {
            assert!(handle.read(0, start as u64..end as u64).unwrap() == expected[start..end]);
        }
    })
    .await
    .unwrap();
}

pub async fn a_handle_outlives_overwrites<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let value = artifact((0..3 * MIB).map(|at| (at / 1000) as u8).collect::<Vec<_>>());
    let entry = writer.put(&key(1, "k"), &value, epoch(0)).await.unwrap();
    learn(&*reader, &entry).await;
    let handle = Arc::new(reader.get(&entry).await.unwrap());
    let piece = async |range: std::ops::Range<u64>| {
        let handle = handle.clone();
        tokio::task::spawn_blocking(move || handle.read(0, range)).await.unwrap().unwrap()
    };
    let expected = value.artifact_bytes().unwrap();
    assert_eq!(piece(0..10).await, expected[..10]);
    for number in 1..=3 {
        let newer = writer.put(&key(1, "k"), &numbered(number), epoch(number)).await.unwrap();
        learn(&*reader, &newer).await;
        let start = number * MIB as u64 - 5;
        assert_eq!(piece(start..start + 5).await, expected[start as usize..start as usize + 5]);
    }
    writer.remove(&key(1, "k")).await.unwrap();
    assert!(piece(0..3 * MIB as u64).await == expected);
}

pub async fn damage_is_an_error<H: Harness>() {
    let value = numbered(5);
    let bytes = value.layout().bytes();
    let kernel = 140_000 * 8;
    // In the pack, in the first and the last byte of the large tensor, at a chunk's border.
    for at in [0, 47, 48, 48 + CHUNK_BYTES - 1, 48 + CHUNK_BYTES, bytes - 1] {
        let storage = H::new().await;
        let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
        let entry = writer.put(&key(1, "k"), &value, epoch(1)).await.unwrap();
        let intact = writer.put(&key(1, "intact"), &numbered(6), epoch(1)).await.unwrap();
        learn(&*reader, &entry).await;
        learn(&*reader, &intact).await;
        storage.damage(&entry, at).await;
        let handle = match reader.get(&entry).await {
            Err(FolderError::Damaged { .. }) => continue,
            // The holder finds the damage before the reader can, and doesn't give the value away.
            Err(_) if H::NETWORK => {
                assert_eq!(fetch(&*reader, &intact).await.unwrap(), numbered(6));
                continue;
            }
            other => other.unwrap(),
        };
        tokio::task::spawn_blocking(move || {
            assert!(matches!(read_all(&handle), Err(ReadError::Damaged { .. })), "byte {at}");
            // Other chunks can still be read, and a second attempt does no better than the first.
            let [bias, kernel_at, _] = [0, 1, 2];
            let (good, bad) =
                if at < 48 { ((kernel_at, 0..kernel), (bias, 0..40)) } else { ((bias, 0..40), (kernel_at, 0..kernel)) };
            handle.read(good.0, good.1).unwrap();
            for _ in 0..2 {
                assert!(matches!(handle.read(bad.0, bad.1.clone()), Err(ReadError::Damaged { .. })), "byte {at}");
            }
        })
        .await
        .unwrap();
        assert_eq!(fetch(&*reader, &intact).await.unwrap(), numbered(6));
    }
}

pub async fn ranges_are_checked<H: Harness>() {
    let storage = H::new().await;
    let folder = storage.open(author(1)).await;
    let entry = folder.put(&key(1, "k"), &artifact("12345"), epoch(1)).await.unwrap();
    let handle = folder.get(&entry).await.unwrap();
    #[allow(clippy::reversed_empty_ranges)]
    for (tensor, range) in [(0, 0..6), (0, 6..6), (0, 3..2), (0, u64::MAX - 1..u64::MAX), (1, 0..0), (usize::MAX, 0..1)]
    {
        assert!(matches!(handle.read(tensor, range), Err(ReadError::OutOfRange { .. })));
    }
    assert_eq!(handle.read(0, 5..5).unwrap(), "");
    assert_eq!(handle.read(0, 1..4).unwrap(), "234");
}

pub async fn digest_ignores_what_was_read<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let entry = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    agree(&*writer, &*reader).await;
    let before = reader.digest().await.unwrap();
    fetch(&*reader, &entry).await.unwrap();
    assert_eq!(reader.digest().await.unwrap(), before);
    assert_eq!(writer.digest().await.unwrap(), before);
}
