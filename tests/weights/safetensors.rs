//! Files written by Python's safetensors library, and files that aren't safetensors.

use bytes::Bytes;
use half::{bf16, f16};
use peerfold::weights::{
    DType, MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS, MAX_TENSORS, ReadError, SafetensorsError, SafetensorsFile, Tensor,
    TensorReader, TensorSpec, Weights, read_all,
};
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::{
    alloc::{GlobalAlloc, Layout as Block, System},
    cell::Cell,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

const PYTHON: &[u8] = include_bytes!("../data/python.safetensors");
const PYTHON_DTYPES: &[u8] = include_bytes!("../data/python_dtypes.safetensors");
const FLOATS: [f64; 6] = [0.0, -1.5, 2.0, 0.25, -65504.0, 1e-3];

fn bytes<T, const N: usize>(elements: impl IntoIterator<Item = T>, encode: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    elements.into_iter().flat_map(encode).collect()
}

fn weights(tensors: impl IntoIterator<Item = (&'static str, DType, Vec<u64>, Vec<u8>)>) -> Weights {
    let tensor = |(name, dtype, shape, data): (&str, _, _, Vec<u8>)| Tensor {
        spec: TensorSpec { name: name.to_owned(), dtype, shape },
        data: data.into(),
    };
    Weights::new(tensors.into_iter().map(tensor).collect()).unwrap()
}

fn in_python_file() -> Weights {
    weights([
        ("layer.f64", DType::F64, vec![2, 3], bytes(FLOATS, f64::to_le_bytes)),
        ("layer.f32", DType::F32, vec![2, 3], bytes(FLOATS, |x| (x as f32).to_le_bytes())),
        ("layer.f16", DType::F16, vec![2, 3], bytes(FLOATS, |x| f16::from_f64(x).to_le_bytes())),
        ("layer.bf16", DType::BF16, vec![2, 3], bytes(FLOATS, |x| bf16::from_f64(x).to_le_bytes())),
        ("count.i64", DType::I64, vec![4], bytes([i64::MIN, -1, 0, i64::MAX], i64::to_le_bytes)),
        ("count.i32", DType::I32, vec![4], bytes([i32::MIN, -1, 0, i32::MAX], i32::to_le_bytes)),
        ("count.u8", DType::U8, vec![4], vec![0, 1, 127, 255]),
        ("mask", DType::Bool, vec![2, 2], vec![1, 0, 0, 1]),
        ("scalar", DType::F32, vec![], 3.5f32.to_le_bytes().to_vec()),
        ("none", DType::F32, vec![0, 3], vec![]),
        ("ünïcode/ name", DType::U8, vec![1, 1], vec![7]),
    ])
}

/// Of every dtype a matrix, a scalar and nothing.
fn in_python_dtypes_file() -> Weights {
    const FLOATS: [f64; 6] = [0.0, -1.5, 2.0, 0.25, -0.5, 1e-3];
    macro_rules! integers {
        ($($integer:ty),*) => {
            [$((
                stringify!($integer),
                bytes([<$integer>::MIN, 0, 1, 2, 3, <$integer>::MAX], <$integer>::to_le_bytes),
                bytes([7 as $integer], <$integer>::to_le_bytes),
            )),*]
        };
    }
    let elements = [
        ("f64", bytes(FLOATS, f64::to_le_bytes), bytes([3.5], f64::to_le_bytes)),
        ("f32", bytes(FLOATS, |x| (x as f32).to_le_bytes()), bytes([3.5], f32::to_le_bytes)),
        ("f16", bytes(FLOATS, |x| f16::from_f64(x).to_le_bytes()), bytes([3.5], |x| f16::from_f64(x).to_le_bytes())),
        ("bf16", bytes(FLOATS, |x| bf16::from_f64(x).to_le_bytes()), bytes([3.5], |x| bf16::from_f64(x).to_le_bytes())),
        ("bool", vec![1, 0, 0, 0, 1, 1], vec![1]),
    ];
    let elements = elements.into_iter().chain(integers![i64, i32, i16, i8, u64, u32, u16, u8]);
    let tensors = elements.flat_map(|(dtype_name, matrix, scalar)| {
        let dtype = DType::ALL.into_iter().find(|dtype| dtype.to_string() == dtype_name).unwrap();
        [("matrix", vec![2, 3], matrix), ("scalar", vec![], scalar), ("none", vec![0, 3], vec![])].map(
            |(shape_name, shape, data)| Tensor {
                spec: TensorSpec { name: format!("{dtype_name}.{shape_name}"), dtype, shape },
                data: data.into(),
            },
        )
    });
    Weights::new(tensors.collect()).unwrap()
}

/// A file on the disk, removed when dropped.
struct OnDisk {
    dir: TempDir,
}

impl OnDisk {
    fn new(bytes: &[u8]) -> Self {
        let file = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("w.safetensors")
    }

    fn open(&self) -> Result<SafetensorsFile, SafetensorsError> {
        SafetensorsFile::open(&self.path())
    }
}

/// What a file in memory holds, after both ways to read it were compared.
fn read(bytes: &[u8]) -> Result<Weights, SafetensorsError> {
    let read = Weights::from_safetensors(&Bytes::copy_from_slice(bytes));
    let on_disk = OnDisk::new(bytes);
    match (&read, on_disk.open()) {
        (Ok(weights), Ok(file)) => assert_eq!(read_all(&file).unwrap(), *weights),
        (Err(error), Err(same)) => assert_eq!(error.to_string(), same.to_string()),
        (memory, disk) => panic!("{memory:?} in memory, but {disk:?} on the disk"),
    }
    read
}

/// The bytes of a file with this header.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Remembers the largest block that a thread has asked for.
struct Measured;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Measured = Measured;

fn note(bytes: usize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: all is the system's allocator; what is noted allocates nothing.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        note(block.size());
        unsafe { System.alloc(block) }
    }

    unsafe fn alloc_zeroed(&self, block: Block) -> *mut u8 {
        note(block.size());
        unsafe { System.alloc_zeroed(block) }
    }

    unsafe fn realloc(&self, at: *mut u8, block: Block, bytes: usize) -> *mut u8 {
        note(bytes);
        unsafe { System.realloc(at, block, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        unsafe { System.dealloc(at, block) }
    }
}

#[test]
fn files_of_python_are_read() {
    assert_eq!(read(PYTHON).unwrap(), in_python_file());
    assert_eq!(read(PYTHON_DTYPES).unwrap(), in_python_dtypes_file());
}

#[test]
fn dtypes_of_python_that_are_not_folded_are_named() {
    for (bytes, tensor, dtype) in [
        (&include_bytes!("../data/python_float8.safetensors")[..], "scale", "F8_E4M3"),
        (&include_bytes!("../data/python_complex.safetensors")[..], "phase", "C64"),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(matches!(error, SafetensorsError::DType { .. }), "{error}");
        assert!(error.to_string().contains(tensor) && error.to_string().contains(dtype), "{error}");
    }
    let unknown = r#"{"w":{"dtype":"I4096","shape":[1],"data_offsets":[0,2]}}"#;
    let error = read(&file(unknown, &[0; 2])).unwrap_err();
    assert_eq!(error.to_string(), "tensor \"w\" has the dtype I4096, which Peerfold doesn't fold");
}

#[test]
fn what_is_written_is_read_again() {
    for weights in [in_python_file(), in_python_dtypes_file(), weights([]), Weights::artifact("").unwrap()] {
        let file = weights.to_safetensors().unwrap();
        assert_eq!(read(&file).unwrap(), weights);
        let views = SafeTensors::deserialize(&file).unwrap().tensors();
        assert_eq!(safetensors::serialize(views, None).unwrap(), file, "the library writes the same bytes");
        // The way to have Python read it: PEERFOLD_TEST_WRITE=/tmp/ours.safetensors.
        if let Ok(path) = std::env::var("PEERFOLD_TEST_WRITE")
            && weights.layout().tensors().len() > 1
        {
            fs::write(path, file).unwrap();
        }
    }
}

#[test]
fn a_name_that_the_format_reserves_is_an_error() {
    let reserved = weights([("__metadata__", DType::U8, vec![1], vec![7])]);
    assert!(matches!(reserved.to_safetensors(), Err(SafetensorsError::ReservedName)));
    let mut written = Vec::new();
    assert_eq!(reserved.write_safetensors(&mut written).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert!(written.is_empty());
}

#[test]
fn what_is_cut_or_too_long_is_an_error() {
    for whole in [PYTHON, PYTHON_DTYPES] {
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(matches!(error, SafetensorsError::Format(_)), "{length}: {error}");
        }
        let error = read(&[whole, &[0]].concat()).unwrap_err();
        assert!(matches!(error, SafetensorsError::Format(_)), "{error}");
    }
}

#[test]
fn headers_that_lie_are_told() {
    for (header, part) in [
        (r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, "tensor a f32[46"),
        (r#"{"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,8]}}"#, "has 8 bytes"),
        (r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,18446744073709551615]}}"#, "18446744073709551615 bytes"),
        (r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#, "tensor \"a\" lies at bytes 4 to 0"),
        (r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, "4 bytes together, but 8 follow"),
        (r#"{"a":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}}"#, "12 bytes together, but 8 follow"),
        (r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#, "where byte 0 is next"),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
            "tensor \"b\" lies at bytes 2 to 6",
        ),
        (r#"{"a":{"dtype":"U8","shape":[-8],"data_offsets":[0,8]}}"#, "-8"),
        (r#"{"a":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}}"#, "8.0"),
        (r#"{"a":{"dtype":8,"shape":[8],"data_offsets":[0,8]}}"#, "the name of a dtype"),
        (r#"{"a":{"dtype":"U8","data_offsets":[0,8]}}"#, "shape"),
        (r#"{"__metadata__":{"step":7}}"#, "a string"),
        (r#"{"__metadata__":[]}"#, "strings by name"),
        (r#"{"a":7}"#, "7"),
        ("[]", "tensors by name"),
        ("{", "EOF"),
        ("{} x", "trailing"),
        ("", "EOF"),
    ] {
        let error = read(&file(header, &[0; 8])).unwrap_err();
        assert!(matches!(error, SafetensorsError::Format(_)), "{header}: {error}");
        assert!(error.to_string().contains(part), "{header}: {part} is not in: {error}");
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 3] {
        let error = read(&[&length.to_le_bytes()[..], b"{}"].concat()).unwrap_err();
        assert!(error.to_string().contains(&format!("{length} bytes, but only 2 follow")), "{error}");
    }
    let error = read(&[&2u64.to_le_bytes()[..], &[0xff, 0xff]].concat()).unwrap_err();
    assert!(error.to_string().contains("no text"), "{error}");
    // A header may be as long as the file and yet too long.
    let sparse = OnDisk::new(&150_000_000u64.to_le_bytes());
    File::options().write(true).open(sparse.path()).unwrap().set_len(200_000_000).unwrap();
    let error = sparse.open().unwrap_err();
    assert!(error.to_string().contains("at most 100000000 are allowed"), "{error}");
}

#[test]
fn limits_of_a_layout_hold() {
    let named = |name: &str| file(&format!(r#"{{"{name}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}}"#), &[]);
    read(&named(&"x".repeat(256))).unwrap();
    assert!(matches!(read(&named(&"x".repeat(257))), Err(SafetensorsError::Weights(_))));
    let of_rank = |rank: usize| {
        let shape = vec!["0"; rank].join(",");
        file(&format!(r#"{{"a":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,0]}}}}"#), &[])
    };
    read(&of_rank(8)).unwrap();
    let error = read(&of_rank(5000)).unwrap_err();
    assert!(matches!(error, SafetensorsError::Weights(_)) && error.to_string().contains("rank"), "{error}");
    let many = |count: usize| {
        let tensor = |number| format!(r#""{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
        file(&format!("{{{}}}", (0..count).map(tensor).collect::<Vec<_>>().join(",")), &[])
    };
    assert_eq!(read(&many(MAX_TENSORS)).unwrap().layout().tensors().len(), MAX_TENSORS);
    assert!(
        read(&many(MAX_TENSORS + 1))
            .unwrap_err()
            .to_string()
            .contains("the number of tensors is 65537, but at most 65536")
    );
    let twice =
        r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    assert!(read(&file(twice, &[])).unwrap_err().to_string().contains("\"a\" stands twice"));
}

#[test]
fn what_else_a_header_may_have() {
    let one = Weights::new(vec![Tensor {
        spec: TensorSpec { name: "a".to_owned(), dtype: DType::U8, shape: vec![2] },
        data: vec![8, 9].into(),
    }]);
    for header in [
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
        r#"  {"a":{"data_offsets":[0,2],"shape":[2],"more":[{"x":null}],"dtype":"U8"}}      "#,
        r#"{"__metadata__":null,"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"__metadata__":{"f":"\u0000 ü","":""}}"#,
    ] {
        assert_eq!(&read(&file(header, &[8, 9])).unwrap(), one.as_ref().unwrap(), "{header}");
    }
    assert_eq!(read(&file("{}", &[])).unwrap(), weights([]));
}

#[test]
fn metadata_of_python_comes_back_and_no_more_than_is_kept() {
    let weights = read(PYTHON_DTYPES).unwrap();
    assert_eq!(
        weights.annotations().iter().collect::<Vec<_>>(),
        [("format", "np"), ("note", "tensors of every dtype")]
    );
    let file = weights.to_safetensors().unwrap();
    let again = read(&file).unwrap();
    assert_eq!((again.annotations(), again.manifest().root()), (weights.annotations(), weights.manifest().root()));
    let (_, theirs) = SafeTensors::read_metadata(&file).unwrap();
    assert_eq!(theirs.metadata().as_ref().unwrap()["note"], "tensors of every dtype");
    for (count, length, part) in [
        (MAX_ANNOTATIONS, 0, None),
        (MAX_ANNOTATIONS + 1, 0, Some("4097 entries of metadata, but at most 4096")),
        (1, MAX_ANNOTATION_BYTES - 1, None),
        (1, MAX_ANNOTATION_BYTES, Some("1048577 bytes of metadata, but at most 1048576")),
    ] {
        let text = "x".repeat(length);
        let texts: Vec<String> = (0..count).map(|number| format!(r#""{number}":"{text}""#)).collect();
        match (read(&file_of(&format!(r#"{{"__metadata__":{{{}}}}}"#, texts.join(",")))), part) {
            (Ok(weights), None) => assert_eq!(weights.annotations().iter().count(), count),
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (read, _) => panic!("{read:?} for {count} of {length}"),
        }
    }
}

fn file_of(header: &str) -> Vec<u8> {
    file(header, &[])
}

#[test]
fn odd_tensors_come_back_as_they_are() {
    let odd = [
        ("", DType::I64, vec![], vec![1; 8]),
        ("a/b.weight \u{1b}[2J\"ü\u{0}", DType::BF16, vec![2], vec![0x80, 0x3f, 0, 0]),
        ("none", DType::F16, vec![0, 7], vec![]),
        ("flags", DType::Bool, vec![3], vec![1, 0, 1]),
    ];
    let weights = weights(odd);
    let file = weights.to_safetensors().unwrap();
    assert_eq!(read(&file).unwrap(), weights);
    assert_eq!(SafeTensors::deserialize(&file).unwrap().len(), 4);
}

#[test]
fn parts_of_a_tensor_are_read() {
    let (on_disk, weights) = (OnDisk::new(PYTHON_DTYPES), in_python_dtypes_file());
    let file = on_disk.open().unwrap();
    for (number, (spec, data)) in weights.tensors().enumerate() {
        for from in 0..=spec.bytes() {
            for to in from..=spec.bytes() {
                assert_eq!(file.read(number, from..to).unwrap(), data[from as usize..to as usize]);
            }
        }
        let outside = [0..spec.bytes() + 1, spec.bytes() + 1..spec.bytes() + 1, 0..u64::MAX];
        for range in outside {
            assert!(matches!(file.read(number, range), Err(ReadError::OutOfRange { .. })));
        }
    }
    assert!(matches!(file.read(weights.layout().tensors().len(), 0..0), Err(ReadError::OutOfRange { .. })));
}

#[test]
fn a_file_that_changes_meanwhile_is_an_error() {
    let whole =
        |file: &SafetensorsFile| read_all(file).map_err(|error| (matches!(error, ReadError::Damaged { .. }), error));
    let shorter = |length: u64| {
        let on_disk = OnDisk::new(PYTHON_DTYPES);
        let file = on_disk.open().unwrap();
        File::options().write(true).open(on_disk.path()).unwrap().set_len(length).unwrap();
        let (damaged, error) = whole(&file).unwrap_err();
        assert!(damaged && error.to_string().contains("w.safetensors"), "{error}");
    };
    shorter(0);
    shorter(PYTHON_DTYPES.len() as u64 - 1);
    let on_disk = OnDisk::new(PYTHON_DTYPES);
    let file = on_disk.open().unwrap();
    let changed = File::options().write(true).open(on_disk.path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&changed, b"x", PYTHON_DTYPES.len() as u64 - 1).unwrap();
    // Clocks of file systems are coarse.
    changed.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    let (damaged, error) = whole(&file).unwrap_err();
    assert!(damaged && error.to_string().contains("changed while it was read"), "{error}");
    // Replaced as programs do that write a file whole, it is still the old one.
    let on_disk = OnDisk::new(PYTHON_DTYPES);
    let file = on_disk.open().unwrap();
    fs::write(on_disk.dir.path().join("new"), PYTHON).unwrap();
    fs::rename(on_disk.dir.path().join("new"), on_disk.path()).unwrap();
    assert_eq!(whole(&file).unwrap(), in_python_dtypes_file());
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let error = SafetensorsFile::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
    let error = SafetensorsFile::open(&dir.path().join("none")).unwrap_err();
    assert!(matches!(error, SafetensorsError::Io(_)), "{error}");
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = SafetensorsFile::open(&pipe).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
}

/// A file of Python whose header has some other bytes, or bytes that say another length.
fn changed_file() -> impl Strategy<Value = Vec<u8>> {
    let header = |whole: &[u8]| 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    // What a header is made of, so that some of what is changed is still one.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(br#"{}[]",:0123456789FU8BIOL -_."#.to_vec())];
    prop::sample::select(vec![PYTHON, PYTHON_DTYPES]).prop_flat_map(move |whole| {
        prop::collection::vec((0..header(whole), byte.clone()), 1..4).prop_map(move |changes| {
            let mut changed = whole.to_vec();
            changes.into_iter().for_each(|(at, byte)| changed[at] = byte);
            changed
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever stands in a header, nothing panics, nothing is allocated that the file hasn't bytes for, and what is read
    /// is what the safetensors library reads.
    #[test]
    fn changed_headers_are_read_as_the_library_reads_them(changed in changed_file()) {
        let bytes = Bytes::from(changed.clone());
        LARGEST.set(0);
        let ours = Weights::from_safetensors(&bytes);
        prop_assert!(LARGEST.get() < 64 * changed.len(), "{} bytes at once", LARGEST.get());
        let on_disk = read(&changed);
        prop_assert_eq!(ours.is_ok(), on_disk.is_ok());
        match (ours, SafeTensors::deserialize(&changed)) {
            (Ok(weights), Ok(theirs)) => {
                prop_assert_eq!(weights.tensors().count(), theirs.len());
                for (spec, data) in weights.tensors() {
                    let tensor = theirs.tensor(&spec.name).unwrap();
                    prop_assert_eq!(tensor.data(), &data[..]);
                    prop_assert_eq!(format!("{:?}", tensor.dtype()).to_lowercase(), spec.dtype.to_string());
                    prop_assert!(tensor.shape().iter().map(|&side| side as u64).eq(spec.shape.iter().copied()));
                }
            }
            // Theirs has more dtypes and fewer limits.
            (Err(SafetensorsError::DType { .. } | SafetensorsError::Weights(_)), Ok(_)) => {}
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?}, but the library says {theirs:?}"),
        }
    }
}
