//! Settings from Python's values, by the declarations of the layers that have them: a new setting of a layer is an
//! option of the package without a line here.

use crate::errors::Failure;
use peerfold::{
    bucket::BucketSettings,
    cache::CacheSettings,
    node::{AsyncOptions, Checks, EndSettings, PublishSettings, StartOptions, SyncOptions, TrustSettings},
    p2p::NetworkSettings,
    secret::SecretSettings,
    settings::{Field, Form, Settings, Values, Written},
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBool, PyDict, PyString},
};

/// What is no option of its own: it has an argument, or a call instead.
const ARGUMENTS: [&str; 4] = ["bootstrap", "s3-endpoint", "nodes", "stay"];
/// Settings of a bucket that is behind a network.
const BEHIND: [&str; 3] = ["fallback", "fallback-after", "relay-after"];

/// Who takes settings, and which.
type Group = (&'static str, fn() -> Vec<Field>);
/// A setting for Python: name, kind, documentation, default as text.
type Described = (String, &'static str, String, Option<String>);

/// Which object of the package takes a setting.
const GROUPS: [Group; 5] = [
    ("network", || options([NetworkSettings::fields(), SecretSettings::fields(), BucketSettings::fields()])),
    ("bucket", || {
        let fields = options([BucketSettings::fields(), SecretSettings::fields()]).into_iter();
        fields.filter(|field| !BEHIND.contains(&field.key)).collect()
    }),
    ("async", || [options([AsyncOptions::fields()]), of_nodes()].concat()),
    ("sync", || [options([SyncOptions::fields()]), of_nodes()].concat()),
    ("arguments", || {
        let fields = [NetworkSettings::fields(), BucketSettings::fields(), SyncOptions::fields()].concat().into_iter();
        fields.filter(|field| ARGUMENTS.contains(&field.key)).collect()
    }),
];

/// Those that are options.
fn options<const N: usize>(fields: [Vec<Field>; N]) -> Vec<Field> {
    fields.concat().into_iter().filter(|field| !ARGUMENTS.contains(&field.key)).collect()
}

/// Those that synchronous and asynchronous nodes have.
fn of_nodes() -> Vec<Field> {
    options([
        StartOptions::fields(),
        Checks::fields(),
        TrustSettings::fields(),
        EndSettings::fields(),
        PublishSettings::fields(),
        CacheSettings::fields(),
    ])
}

/// The settings of a group.
#[pyfunction]
pub(crate) fn settings(group: &str) -> PyResult<Vec<Described>> {
    let fields = GROUPS.iter().find(|(name, _)| *name == group).map(|(_, fields)| fields());
    let fields = fields.ok_or_else(|| PyTypeError::new_err(format!("there is no group {group}")))?;
    Ok(fields.iter().map(|field| (name_of(field), kind(field.form), field.help(), default(field))).collect())
}

fn default(field: &Field) -> Option<String> {
    (field.default)().map(|written| written.to_string())
}

fn name_of(field: &Field) -> String {
    field.key.replace('-', "_")
}

fn kind(form: Form) -> &'static str {
    match form {
        Form::Switch => "bool",
        Form::Whole => "int",
        Form::Number => "float",
        Form::Seconds => "seconds",
        Form::Minutes => "minutes",
        Form::Size => "size",
        Form::Path => "path",
        Form::Text | Form::Choice(_) => "str",
        Form::List | Form::Files => "list",
        Form::Pairs => "pairs",
    }
}

/// The values of these options, by the settings' keys. `None` is a setting that isn't set.
pub(crate) fn values(options: &Bound<'_, PyDict>) -> PyResult<Values> {
    let fields: Vec<Field> = GROUPS.iter().flat_map(|(_, fields)| fields()).collect();
    let mut values = Values::new();
    for (name, value) in options {
        let name: String = name.extract()?;
        let field = fields.iter().find(|field| name_of(field) == name);
        let field = field.ok_or_else(|| PyTypeError::new_err(format!("there is no option {name:?}")))?;
        if value.is_none() {
            continue;
        }
        let written = written(field.form, &value)
            .map_err(|what| Failure::new("SettingError", format!("{name} = {}: {what}", shown(&value))))?;
        values.insert(field.key.to_owned(), written);
    }
    Ok(values)
}

fn shown(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| "…".to_owned(), |repr| repr.to_string())
}

fn text(value: &Bound<'_, PyAny>) -> Result<String, String> {
    let of_path = || value.call_method0("__fspath__").and_then(|path| path.extract::<String>());
    value.extract::<String>().or_else(|_| of_path()).map_err(|_| "write a text or a path".to_owned())
}

/// A value of Python as the setting is written.
fn written(form: Form, value: &Bound<'_, PyAny>) -> Result<Written, String> {
    let is_text = value.is_instance_of::<PyString>();
    let is_bool = value.is_instance_of::<PyBool>();
    match form {
        Form::List | Form::Files | Form::Pairs => {
            if is_text || value.hasattr("__fspath__").unwrap_or(false) {
                return text(value).map(|only| Written::List(vec![only]));
            }
            let items = value.try_iter().map_err(|_| "write a list".to_owned())?;
            let texts = items.map(|item| item.map_err(|error| error.to_string()).and_then(|item| text(&item)));
            texts.collect::<Result<_, _>>().map(Written::List)
        }
        Form::Switch if is_bool => value.extract().map(Written::Switch).map_err(|error| error.to_string()),
        Form::Switch => Err("write True or False".to_owned()),
        _ if is_bool => Err("this is no switch".to_owned()),
        Form::Path => form.read_text(&text(value)?),
        _ if is_text => form.read_text(&text(value)?),
        Form::Whole => value.extract().map(Written::Whole).map_err(|_| "write a whole number, not negative".to_owned()),
        Form::Size => {
            let bytes: u64 =
                value.extract().map_err(|_| "write a number of bytes, or a size like '8GiB'".to_owned())?;
            Ok(Written::Text(bytes.to_string()))
        }
        Form::Number | Form::Seconds | Form::Minutes => {
            value.extract().map(Written::Number).map_err(|_| "write a number".to_owned())
        }
        Form::Text | Form::Choice(_) => Err("write a text".to_owned()),
    }
}
