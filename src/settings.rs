//! The building blocks of settings. Each layer declares its own settings once, with `settings!`.
//!
//! A declaration has the key, the type, the default, the documentation and the bounds of each setting. Flags with their
//! help, environment variables, TOML and serde all come from it in the same two steps: the setting's [`Form`] turns
//! text into a [`Written`], and [`Value`] turns that into the field's type, if it is within its [`Range`]. So a new
//! setting is a line in its layer's struct, and its use.

mod declare;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod range;
mod value;
mod written;

pub(crate) use self::{declare::settings, value::named};
pub use self::{
    range::Range,
    value::{Item, Minutes, Unfit, Value},
    written::{Form, Written},
};

pub use bytesize::ByteSize;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::BTreeMap;

/// Values by the keys of their settings, as they are written.
pub type Values = BTreeMap<String, Written>;

/// A setting as its layer declares it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name: that of its flag and of its key in TOML, in kebab-case.
    pub key: &'static str,
    /// What it is, a line of the source each. Up to the first empty one it is what help says.
    pub docs: &'static [&'static str],
    /// The placeholder for its value in help.
    pub value_name: &'static str,
    /// Its heading in help.
    pub heading: Option<&'static str>,
    /// How it is written.
    pub form: Form,
    /// Its bounds, if it is a number.
    pub range: Range,
    /// Its default; `None` if it has none.
    pub default: fn() -> Option<Written>,
}

impl Field {
    /// What it is, and its default unless the documentation tells that itself or it is a switch, which is off.
    pub fn help(&self) -> String {
        let lines = self.docs.iter().map(|line| line.trim()).take_while(|line| !line.is_empty());
        let docs = lines.collect::<Vec<_>>().join(" ");
        match (self.default)() {
            Some(default) if !docs.contains("[default: ") && !matches!(self.form, Form::Switch) => {
                format!("{docs} [default: {default}]")
            }
            _ => docs,
        }
    }

    /// Errors if the value is a number, and not one that the setting can be.
    pub fn check(&self, written: &Written) -> Result<(), Mistake> {
        let checked = self.form.number(written).and_then(|number| match number {
            Some(number) => self.range.check(self.form, number),
            None => Ok(()),
        });
        checked.map_err(|what| self.mistake(written.to_string(), what))
    }

    fn mistake(&self, value: String, what: String) -> Mistake {
        Mistake { key: self.key, value, what }
    }
}

/// A setting with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: {what}")]
pub struct Mistake {
    /// The setting.
    pub key: &'static str,
    /// Its value, or the part of it that is at fault.
    pub value: String,
    /// Why not, and what would be right.
    pub what: String,
}

/// A layer's settings, declared by `settings!`.
pub trait Settings: Sized {
    /// The settings, in the order in which they are declared, with those of nested structs at their end.
    fn fields() -> Vec<Field>;

    /// Takes its own values from these, and defaults for the rest. May read files that a value names.
    fn read(values: &Values) -> Result<Self, Mistake>;

    /// The settings as they would be written, but those that are nothing.
    fn written(&self) -> Vec<(Field, Written)>;

    /// The setting of this key. `None` if there is no such.
    fn field(key: &str) -> Option<Field> {
        Self::fields().into_iter().find(|field| field.key == key)
    }

    /// Errors if a number is outside of its bounds: for settings that a program has made itself.
    fn check(&self) -> Result<(), Mistake> {
        self.written().iter().try_for_each(|(field, written)| field.check(written))
    }
}

/// One field of what [`Settings::read`] makes.
pub(crate) fn read_field<T: Value>(values: &Values, field: &Field, default: impl FnOnce() -> T) -> Result<T, Mistake> {
    let Some(written) = values.get(field.key) else { return Ok(default()) };
    field.check(written)?;
    let value = T::read(written);
    let value = value.map_err(|unfit| field.mistake(unfit.value.unwrap_or_else(|| written.to_string()), unfit.what))?;
    if let Some(read) = value.write() {
        // It may have been rounded: a tenth of a nanosecond is above 0, and no time.
        field.check(&read).map_err(|mistake| field.mistake(written.to_string(), mistake.what))?;
    }
    Ok(value)
}

/// Serializes settings as a map with a key for each that is something.
pub(crate) fn serialize<S: Serializer>(settings: &impl Settings, serializer: S) -> Result<S::Ok, S::Error> {
    let values = settings.written();
    serializer.collect_map(values.iter().map(|(field, written)| (field.key, written)))
}

/// Reads settings from a map. Missing ones have their defaults, and unknown keys are errors.
pub(crate) fn deserialize<'de, T: Settings, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let fields = T::fields();
    let mut values = Values::new();
    for (key, value) in BTreeMap::<String, toml::Value>::deserialize(deserializer)? {
        let field = fields.iter().find(|field| field.key == key);
        let field = field.ok_or_else(|| D::Error::custom(format_args!("there is no setting `{key}`")))?;
        let written = field.form.read_toml(value).map_err(|what| D::Error::custom(format_args!("{key}: {what}")))?;
        values.insert(key, written);
    }
    T::read(&values).map_err(D::Error::custom)
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Switch(on) => serializer.serialize_bool(*on),
            // TOML has no larger whole numbers; as a text they are read back.
            Self::Whole(number) if i64::try_from(*number).is_err() => serializer.serialize_str(&number.to_string()),
            Self::Whole(number) => serializer.serialize_u64(*number),
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
        }
    }
}

#[cfg(test)]
mod tests;
