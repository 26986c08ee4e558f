//! Recognises a file by its first bytes, so that an error can say what it is when it isn't what was expected.

use std::fmt;

/// A format that people give where another one is expected. Only the first bytes of such a file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// What `torch.save` writes: a zip archive with a pickle in it.
    PyTorch,
    /// What `torch.save` wrote before version 1.6: pickles.
    OldPyTorch,
    /// Python's pickle.
    Pickle,
    /// A zip archive of numpy's arrays.
    Npz,
    /// One array of numpy's.
    Npy,
    /// A model that Keras saved as a zip archive.
    Keras,
    /// Another zip archive.
    Zip,
    /// HDF5, as Keras' `.h5` files are.
    Hdf5,
    /// llama.cpp's format.
    Gguf,
    /// What git leaves in the place of a file that lies in Git LFS.
    GitLfsPointer,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with zstd.
    Zstd,
    /// Compressed with xz.
    Xz,
    /// Compressed with bzip2.
    Bzip2,
    /// A web page.
    Html,
    /// XML, as a store answers where it has no such object.
    Xml,
    /// JSON, as the index of a model in several files is.
    Json,
    /// Nothing but zeros at the beginning.
    Zeros,
}

impl FileFormat {
    /// As many first bytes as suffice.
    pub const HEAD_BYTES: usize = 512;

    /// The format of a file that begins so, if it is one of these.
    pub fn of(head: &[u8]) -> Option<Self> {
        if let Some(first) = head.strip_prefix(b"PK\x03\x04") {
            return Some(Self::archive(first));
        }
        for (magic, format) in [
            // The pickle of torch.save's magic number.
            (&b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9"[..], Self::OldPyTorch),
            (b"\x93NUMPY", Self::Npy),
            (b"\x89HDF\r\n\x1a\n", Self::Hdf5),
            (b"GGUF", Self::Gguf),
            (b"version https://git-lfs.github.com/spec/", Self::GitLfsPointer),
            (b"\x1f\x8b", Self::Gzip),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"\xfd7zXZ\x00", Self::Xz),
            (b"BZh", Self::Bzip2),
        ] {
            if head.starts_with(magic) {
                return Some(format);
            }
        }
        // Protocols 2 to 5 begin with their number, and go on with an opcode.
        if let [0x80, 2..=5, opcode, ..] = head
            && (opcode.is_ascii_graphic() || *opcode >= 0x80)
        {
            return Some(Self::Pickle);
        }
        if head.len() >= Self::HEAD_BYTES && head.iter().all(|byte| *byte == 0) {
            return Some(Self::Zeros);
        }
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let begins =
            |word: &str| text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes()));
        match text {
            _ if begins("<!doctype") || begins("<html") => Some(Self::Html),
            _ if begins("<?xml") || begins("<error>") => Some(Self::Xml),
            // Of a file that begins with a number, the least byte may be a brace; a second one says that it is text.
            [b'{', next, ..] if *next == b'"' || next.is_ascii_whitespace() => Some(Self::Json),
            _ => None,
        }
    }

    /// By the name of the archive's first file.
    fn archive(after_magic: &[u8]) -> Self {
        // The header is 30 bytes long, the magic included; the name's length stands at byte 26.
        let length = after_magic.get(22..24).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
        let name = after_magic.get(26..).unwrap_or_default();
        let name = &name[..length.min(name.len())];
        let ends = |with: &str| name.ends_with(with.as_bytes());
        if ["/data.pkl", "/.format_version", "/byteorder", "/version"].into_iter().any(ends) {
            Self::PyTorch
        } else if ends(".npy") {
            Self::Npz
        } else if ["metadata.json", "config.json", ".weights.h5"].into_iter().any(ends) {
            Self::Keras
        } else {
            Self::Zip
        }
    }

    /// How to convert it to a safetensors file, as part of a sentence. Where Python can do it, in one line that doesn't
    /// run anything contained in the file.
    pub fn to_safetensors(self) -> &'static str {
        match self {
            Self::PyTorch | Self::OldPyTorch | Self::Pickle => {
                "convert it with python3 -c \"import torch; from safetensors.torch import save_file; save_file({k: \
                 v.clone().contiguous() for k, v in torch.load('FILE', map_location='cpu', weights_only=True).items()}, \
                 'FILE.safetensors')\""
            }
            Self::Npz => {
                "convert it with python3 -c \"import numpy; from safetensors.numpy import save_file; \
                 save_file(dict(numpy.load('FILE')), 'FILE.safetensors')\""
            }
            Self::Npy => {
                "convert it with python3 -c \"import numpy; from safetensors.numpy import save_file; \
                 save_file({'weight': numpy.load('FILE')}, 'FILE.safetensors')\""
            }
            Self::Keras => {
                "convert it with python3 -c \"import keras; from safetensors.numpy import save_file; save_file({w.path: \
                 w.numpy() for w in keras.models.load_model('FILE').weights}, 'FILE.safetensors')\""
            }
            Self::Hdf5 => {
                "convert it with python3 -c \"import h5py; from safetensors.numpy import save_file; t = {}; \
                 h5py.File('FILE').visititems(lambda n, d: t.update({n: d[...]}) if hasattr(d, 'dtype') else None); \
                 save_file(t, 'FILE.safetensors')\""
            }
            Self::Gguf => {
                "convert it with python3 -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('.', \
                 gguf_file='FILE').save_pretrained('out')\", or take the safetensors files that it was made of"
            }
            Self::GitLfsPointer => "get the file itself with: git lfs pull",
            Self::Gzip | Self::Zstd | Self::Xz | Self::Bzip2 | Self::Zip => "unpack it first",
            Self::Html | Self::Xml => "a download has brought that instead of the file; get it anew",
            Self::Json => "if it is the index of a model in several files, give those that it names",
            Self::Zeros => "a download or a copy has not filled it; get it anew",
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PyTorch => "a PyTorch file (a zip archive with a pickle, as torch.save writes it)",
            Self::OldPyTorch => "an old PyTorch file (pickles, as torch.save wrote them before 1.6)",
            Self::Pickle => "a Python pickle",
            Self::Npz => "numpy's .npz",
            Self::Npy => "numpy's .npy",
            Self::Keras => "a Keras model (.keras)",
            Self::Zip => "a zip archive",
            Self::Hdf5 => "HDF5, as Keras' .h5 is",
            Self::Gguf => "GGUF, llama.cpp's format",
            Self::GitLfsPointer => "a Git LFS pointer, which only names the file",
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
            Self::Xz => "compressed with xz",
            Self::Bzip2 => "compressed with bzip2",
            Self::Html => "a web page (HTML)",
            Self::Xml => "XML, as a store's error answer is",
            Self::Json => "JSON text",
            Self::Zeros => "a file that begins with nothing but zeros",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a zip archive whose first file has this name.
    fn zip(name: &str) -> Vec<u8> {
        let length = (name.len() as u16).to_le_bytes();
        [&b"PK\x03\x04"[..], &[0; 22], &length, &[0, 0], name.as_bytes(), &[7; 100]].concat()
    }

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        for (head, format) in [
            (zip("archive/data.pkl"), FileFormat::PyTorch),
            (zip("my.model/data.pkl"), FileFormat::PyTorch),
            (zip("arr_0.npy"), FileFormat::Npz),
            (zip("metadata.json"), FileFormat::Keras),
            (zip("README"), FileFormat::Zip),
            (zip("")[..10].to_vec(), FileFormat::Zip),
            (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(), FileFormat::OldPyTorch),
            (b"\x80\x04\x95\x10\x00\x00\x00".to_vec(), FileFormat::Pickle),
            (b"\x80\x02}q\x00".to_vec(), FileFormat::Pickle),
            (b"\x93NUMPY\x01\x00".to_vec(), FileFormat::Npy),
            (b"\x89HDF\r\n\x1a\n\x00".to_vec(), FileFormat::Hdf5),
            (b"GGUF\x03\x00\x00\x00".to_vec(), FileFormat::Gguf),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(), FileFormat::GitLfsPointer),
            (b"\x1f\x8b\x08\x00".to_vec(), FileFormat::Gzip),
            (b"\n <!DOCTYPE html><html>".to_vec(), FileFormat::Html),
            (b"\xef\xbb\xbf<HTML>".to_vec(), FileFormat::Html),
            (b"<?xml version='1.0'?><Error><Code>NoSuchKey".to_vec(), FileFormat::Xml),
            (b"{\n  \"weight_map\": {}}".to_vec(), FileFormat::Json),
            (vec![0; 512], FileFormat::Zeros),
        ] {
            assert_eq!(FileFormat::of(&head), Some(format), "{head:?}");
            assert!(!format.to_string().contains('\n') && !format.to_safetensors().contains('\n'));
        }
        for head in
            [&b""[..], b"PK", b"\x80\x02\x00\x00\x00\x00\x00\x00{", b"\x58\x00\x00\x00\x00\x00\x00\x00{", b"\x7b\x00"]
        {
            assert_eq!(FileFormat::of(head), None, "{head:?}");
        }
    }
}
