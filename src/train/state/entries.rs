//! The entries of a map, which serde shows one by one, so that they can be written in a different order without copying
//! their values.

use serde::{
    Serialize, Serializer,
    ser::{Impossible, SerializeMap},
};
use std::{
    fmt,
    io::{self, Write},
};

/// An entry of a map.
pub(super) struct Entry {
    pub(super) key: String,
    /// Bytes of its value as CBOR.
    pub(super) length: u64,
    /// Whether its value has a text that was asked for.
    pub(super) has_text: bool,
}

/// Keys and lengths of a map's entries, in the map's order; `None` for what isn't a map with texts as keys. `is_text`
/// is asked about each short text in the values.
pub(super) fn list(map: &impl Serialize, is_text: &dyn Fn(&str) -> bool) -> Result<Option<Vec<Entry>>, String> {
    let (mut found, mut failure) = (Vec::new(), None);
    let pass = Pass { task: Task::List { found: &mut found, is_text }, failure: &mut failure };
    match (map.serialize(pass), failure) {
        (Ok(()), None) => Ok(Some(found)),
        (_, Some(failure)) => Err(failure),
        (Err(_), None) => Ok(None),
    }
}

/// Writes the value of the entry with this number in the map's order.
pub(super) fn write(map: &impl Serialize, wanted: usize, out: &mut dyn Write) -> Result<(), String> {
    let mut failure = None;
    let pass = Pass { task: Task::Write { at: 0, wanted, out }, failure: &mut failure };
    let written = map.serialize(pass);
    failure.map_or_else(|| written.map_err(|error| error.to_string()), Err)
}

/// One pass over a map.
struct Pass<'a> {
    task: Task<'a>,
    /// What went wrong inside of an entry.
    failure: &'a mut Option<String>,
}

enum Task<'a> {
    List { found: &'a mut Vec<Entry>, is_text: &'a dyn Fn(&str) -> bool },
    Write { at: usize, wanted: usize, out: &'a mut dyn Write },
}

/// Counts what would be written, and looks for texts in it: CBOR's encoder writes each of them whole.
struct Count<'a> {
    length: u64,
    is_text: &'a dyn Fn(&str) -> bool,
    has_text: bool,
}

impl Write for Count<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        if bytes.len() < 64 {
            self.has_text |= std::str::from_utf8(bytes).is_ok_and(self.is_text);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SerializeMap for Pass<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, _key: &T) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, _value: &T) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_entry<K: ?Sized + Serialize, V: ?Sized + Serialize>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), fmt::Error> {
        let result = match &mut self.task {
            Task::List { found, is_text } => {
                let key = ciborium::Value::serialized(key).ok().and_then(|key| key.into_text().ok());
                let key = key.ok_or(fmt::Error)?;
                let mut count = Count { length: 0, is_text: *is_text, has_text: false };
                let counted = ciborium::into_writer(value, &mut count);
                found.push(Entry { key, length: count.length, has_text: count.has_text });
                counted
            }
            Task::Write { at, wanted, out } => {
                *at += 1;
                if *at - 1 == *wanted { ciborium::into_writer(value, &mut **out) } else { Ok(()) }
            }
        };
        result.map_err(|error| {
            *self.failure = Some(error.to_string());
            fmt::Error
        })
    }

    fn end(self) -> Result<(), fmt::Error> {
        Ok(())
    }
}

/// Anything else than a map is an error.
macro_rules! no_map {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method(self, _: $type) -> Result<(), fmt::Error> {
            Err(fmt::Error)
        })*
    };
}

impl<'a> Serializer for Pass<'a> {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Impossible<(), fmt::Error>;
    type SerializeTuple = Impossible<(), fmt::Error>;
    type SerializeTupleStruct = Impossible<(), fmt::Error>;
    type SerializeTupleVariant = Impossible<(), fmt::Error>;
    type SerializeMap = Pass<'a>;
    type SerializeStruct = Impossible<(), fmt::Error>;
    type SerializeStructVariant = Impossible<(), fmt::Error>;

    fn serialize_map(self, _length: Option<usize>) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    no_map! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_f32(f32),
        serialize_f64(f64), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str),
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _value: &T) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, fmt::Error> {
        Err(fmt::Error)
    }
}
