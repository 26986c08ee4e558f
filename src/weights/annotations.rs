//! Named strings that accompany tensors: the `__metadata__` of a safetensors file.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Most annotations of one value.
pub const MAX_ANNOTATIONS: usize = 4096;
/// Most bytes of all names and texts together: 1 MiB. They are in the manifest, which everybody fetches as a whole.
pub const MAX_ANNOTATION_BYTES: usize = 1 << 20;

/// Named strings that accompany tensors, in ascending order of the names. Cloning is cheap.
///
/// Anybody may have written them: remove control characters before showing them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(Arc<BTreeMap<String, String>>);

/// Why strings can't be annotations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationsError {
    /// Too many names.
    #[error("{got} entries of metadata, but at most {MAX_ANNOTATIONS} are kept; save the file with fewer")]
    Count {
        /// How many there are.
        got: usize,
    },
    /// Too many bytes.
    #[error("{got} bytes of metadata, but at most {MAX_ANNOTATION_BYTES} are kept; save the file with less")]
    Bytes {
        /// How many there are.
        got: usize,
    },
}

impl Annotations {
    /// Annotations of these names and texts. Errors past [`MAX_ANNOTATIONS`] and [`MAX_ANNOTATION_BYTES`].
    pub fn new(texts: BTreeMap<String, String>) -> Result<Self, AnnotationsError> {
        if texts.len() > MAX_ANNOTATIONS {
            return Err(AnnotationsError::Count { got: texts.len() });
        }
        match texts.iter().map(|(name, text)| name.len() + text.len()).sum() {
            got if got > MAX_ANNOTATION_BYTES => Err(AnnotationsError::Bytes { got }),
            _ => Ok(Self(Arc::new(texts))),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and texts, in ascending order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The annotations that both have, with equal texts.
    pub fn common(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let both = self.iter().filter(|&(name, text)| other.get(name) == Some(text));
        Self(Arc::new(both.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()))
    }

    /// These annotations with one more, or with this name's text replaced. Errors past the limits.
    pub fn with(&self, name: &str, text: &str) -> Result<Self, AnnotationsError> {
        let mut texts = BTreeMap::clone(&self.0);
        texts.insert(name.to_owned(), text.to_owned());
        Self::new(texts)
    }

    /// These without the one of this name.
    pub fn without(&self, name: &str) -> Self {
        let mut texts = BTreeMap::clone(&self.0);
        texts.remove(name);
        Self(Arc::new(texts))
    }
}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Stops at the first that passes a limit.
impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let gathered = deserializer.deserialize_map(Gather { stops: true })?;
        gathered.map_err(de::Error::custom)
    }
}

/// Reads annotations and keeps no more of them than the limits allow, whatever their number and length.
pub(super) struct Gather {
    /// Whether the first one past a limit is a format error. If not, the rest is only read and counted, so that we can
    /// report how much there is.
    pub(super) stops: bool,
}

impl<'de> Visitor<'de> for Gather {
    type Value = Result<Annotations, AnnotationsError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strings by name")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Ok(Annotations::default()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        let (mut count, mut bytes) = (0, 0usize);
        let over = |count: usize, bytes: usize| {
            let many = (count > MAX_ANNOTATIONS).then_some(AnnotationsError::Count { got: count });
            many.or((bytes > MAX_ANNOTATION_BYTES).then_some(AnnotationsError::Bytes { got: bytes }))
        };
        while let Some((name, text)) = map.next_entry::<Text, Text>()? {
            count += 1;
            bytes = bytes.saturating_add(name.length).saturating_add(text.length);
            match (over(count, bytes), name.kept, text.kept) {
                (Some(error), ..) if self.stops => return Err(de::Error::custom(error)),
                (None, Some(name), Some(text)) => _ = texts.insert(name, text),
                _ => texts.clear(),
            }
        }
        Ok(over(count, bytes).map_or_else(|| Ok(Annotations(Arc::new(texts))), Err))
    }
}

/// A string, kept only if it alone is within the limit.
struct Text {
    length: usize,
    kept: Option<String>,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                let length = text.len();
                Ok(Text { length, kept: (length <= MAX_ANNOTATION_BYTES).then(|| text.to_owned()) })
            }
        }
        deserializer.deserialize_str(Any)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::Weights;

    fn of<const N: usize>(texts: [(&str, &str); N]) -> Annotations {
        Annotations::new(texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into()).unwrap()
    }

    #[test]
    fn weights_that_are_annotated_later_have_another_root() {
        let plain = Weights::artifact(vec![5; 9]).unwrap();
        let root = plain.manifest().root();
        let annotated = plain.clone().with_annotations(of([("format", "pt")]));
        assert_eq!(annotated.manifest().annotations(), &of([("format", "pt")]));
        assert_ne!(annotated.manifest().root(), root);
        assert_eq!(annotated.with_annotations(Annotations::default()).manifest(), plain.manifest());
    }

    #[test]
    fn what_two_have_in_common() {
        let a = of([("format", "pt"), ("site", "a"), ("task", "wards")]);
        let b = of([("format", "pt"), ("site", "b")]);
        assert_eq!(a.common(&b), of([("format", "pt")]));
        assert_eq!(a.common(&a), a);
        assert!(a.common(&Annotations::default()).is_empty());
    }

    #[test]
    fn limits_hold_however_they_are_made() {
        let many = |count: usize| (0..count).map(|n| (format!("{n:04}"), String::new())).collect::<BTreeMap<_, _>>();
        let full = Annotations::new(many(MAX_ANNOTATIONS)).unwrap();
        assert_eq!(full.with("one more", "").unwrap_err(), AnnotationsError::Count { got: MAX_ANNOTATIONS + 1 });
        let long = "x".repeat(MAX_ANNOTATION_BYTES);
        assert!(of([("", &long)]).with("a", "").is_err());
        for (count, text) in [(MAX_ANNOTATIONS + 1, String::new()), (2, long)] {
            let json = serde_json::to_string(&(0..count).map(|n| (n, &text)).collect::<BTreeMap<_, _>>()).unwrap();
            serde_json::from_str::<Annotations>(&json).unwrap_err();
            let mut reader = serde_json::Deserializer::from_str(&json);
            let counted = reader.deserialize_map(Gather { stops: false }).unwrap().unwrap_err();
            assert!(matches!(counted, AnnotationsError::Count { .. } | AnnotationsError::Bytes { .. }), "{counted}");
        }
    }
}
