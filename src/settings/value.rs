//! The types that settings have.

use super::{Form, Written, written::size};
use bytesize::ByteSize;
use libp2p_identity::PeerId;
use std::{path::PathBuf, time::Duration};

/// Why a value is invalid for a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The part of the value that is at fault, if not all of it.
    pub value: Option<String>,
    /// Why not, and what would be right.
    pub what: String,
}

impl Unfit {
    /// All of the value is at fault.
    pub fn new(what: impl ToString) -> Self {
        Self { value: None, what: what.to_string() }
    }
}

/// A type that a setting can have.
pub trait Value: Sized {
    /// How it is written.
    const FORM: Form;

    /// The value that is written, which is in the setting's range if it is a number.
    fn read(written: &Written) -> Result<Self, Unfit>;

    /// How it would be written. `None` if it is nothing.
    fn write(&self) -> Option<Written>;
}

/// One of several values of a setting.
pub trait Item: Sized {
    /// How several are written.
    const FORM: Form = Form::List;

    /// What a text stands for.
    fn read(text: &str) -> Result<Vec<Self>, String>;

    /// How it would be written.
    fn write(&self) -> String;
}

/// A value of another form than its setting has: only settings that a program has put together itself have such.
fn other_form(form: Form, written: &Written) -> Unfit {
    Unfit::new(format!("{written:?} is not written as {form:?}"))
}

/// A type that is one case of [`Written`], or can be made from it.
macro_rules! value {
    ($type:ty, $form:ident, $case:ident, $read:expr, $write:expr) => {
        impl Value for $type {
            const FORM: Form = Form::$form;

            fn read(written: &Written) -> Result<Self, Unfit> {
                match written {
                    Written::$case(value) => $read(value),
                    other => Err(other_form(<Self as Value>::FORM, other)),
                }
            }

            fn write(&self) -> Option<Written> {
                Some(Written::$case($write(self)))
            }
        }
    };
}

macro_rules! whole {
    ($($type:ty),*) => {
        $(value!(
            $type,
            Whole,
            Whole,
            |value: &u64| <$type>::try_from(*value).map_err(|_| Unfit::new(format!("must be at most {}", <$type>::MAX))),
            |value: &$type| *value as u64
        );)*
    };
}

fn one_peer(text: &str) -> Result<PeerId, Unfit> {
    text.parse().map_err(|_| Unfit::new("is no peer id, which `peerfold id` prints for a node"))
}

fn time_of(number: f64, unit: f64) -> Result<Duration, Unfit> {
    Duration::try_from_secs_f64(number * unit).map_err(Unfit::new)
}

/// 8 GiB, and to the byte what is no round number.
fn shown_size(size: &ByteSize) -> String {
    let shown = size.to_string().replace(".0 ", " ");
    if shown.parse() == Ok(*size) { shown } else { size.as_u64().to_string() }
}

value!(bool, Switch, Switch, |value: &bool| Ok(*value), |value: &bool| *value);
whole!(u32, u64, usize);
value!(f64, Number, Number, |value: &f64| Ok(*value), |value: &f64| *value);
value!(Duration, Seconds, Number, |value: &f64| time_of(*value, 1.0), Duration::as_secs_f64);
value!(Minutes, Minutes, Number, |value: &f64| time_of(*value, 60.0).map(Minutes), Minutes::number);
value!(ByteSize, Size, Text, |value: &String| size(value).map_err(Unfit::new), shown_size);
value!(String, Text, Text, |value: &String| Ok(value.clone()), String::clone);
value!(PeerId, Text, Text, |value: &String| one_peer(value), PeerId::to_string);
value!(PathBuf, Path, Text, |value: &String| Ok(value.into()), |value: &PathBuf| value.display().to_string());

/// A time that is a number of minutes where its unit isn't written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minutes(pub Duration);

impl Minutes {
    fn number(&self) -> f64 {
        self.0.as_secs_f64() / 60.0
    }
}

impl<T: Value> Value for Option<T> {
    const FORM: Form = T::FORM;

    fn read(written: &Written) -> Result<Self, Unfit> {
        T::read(written).map(Some)
    }

    fn write(&self) -> Option<Written> {
        // A list that says something says so when it is empty too: of allowed peers it then allows none.
        self.as_ref().map(|value| value.write().unwrap_or(Written::List(Vec::new())))
    }
}

impl<T: Item> Value for Vec<T> {
    const FORM: Form = T::FORM;

    fn read(written: &Written) -> Result<Self, Unfit> {
        let Written::List(texts) = written else { return Err(other_form(Self::FORM, written)) };
        let mut all = Vec::new();
        for text in texts {
            all.extend(T::read(text).map_err(|what| Unfit { value: Some(text.clone()), what })?);
        }
        Ok(all)
    }

    fn write(&self) -> Option<Written> {
        (!self.is_empty()).then(|| Written::List(self.iter().map(T::write).collect()))
    }
}

impl Item for PeerId {
    fn read(text: &str) -> Result<Vec<Self>, String> {
        match text.parse() {
            Ok(id) => Ok(vec![id]),
            Err(_) => Err("is no peer id; `peerfold id` prints a node's".to_owned()),
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// A type whose text says what it is.
macro_rules! named {
    ($($type:ty),*) => {
        $(impl $crate::settings::Value for $type {
            const FORM: $crate::settings::Form = $crate::settings::Form::Text;

            fn read(written: &$crate::settings::Written) -> Result<Self, $crate::settings::Unfit> {
                written.to_string().parse().map_err($crate::settings::Unfit::new)
            }

            fn write(&self) -> Option<$crate::settings::Written> {
                Some($crate::settings::Written::Text(self.to_string()))
            }
        })*
    };
}

pub(crate) use named;
