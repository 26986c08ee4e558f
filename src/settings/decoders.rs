//! The decoders of this layer, as fuzzers try them.

use super::{Form, Minutes, Value, Written};
use crate::untrusted::{Target, check_told, text, told};
use bytesize::ByteSize;
use std::time::Duration;

const FORMS: [Form; 12] = [
    Form::Switch,
    Form::Whole,
    Form::Number,
    Form::Seconds,
    Form::Minutes,
    Form::Size,
    Form::Text,
    Form::Path,
    Form::Choice(&[("one", ""), ("two", "")]),
    Form::List,
    Form::Files,
    Form::Pairs,
];

fn check(form: Form, written: &Written) {
    let number = form.number(written);
    number.as_ref().err().into_iter().for_each(check_told);
    let unfit = [
        Duration::read(written).map(drop),
        Minutes::read(written).map(drop),
        ByteSize::read(written).map(drop),
        u32::read(written).map(drop),
    ];
    unfit.into_iter().filter_map(Result::err).for_each(|unfit| check_told(unfit.what));
    // Written again, it is the same.
    let table: Result<toml::Table, _> = toml::from_str(&format!("key = {}", written.to_toml()));
    let value = table.ok().and_then(|mut table| table.remove("key"));
    if let Some(again) = value.and_then(|value| form.read_toml(value).ok()) {
        let is_nan = matches!(written, Written::Number(number) if number.is_nan());
        assert!(is_nan || again == *written, "{written:?} became {again:?}");
    } else {
        panic!("{written:?} can't be read as it is written: {}", written.to_toml());
    }
}

/// A form, and a text.
fn setting(bytes: &[u8]) {
    let Some((form, rest)) = bytes.split_first() else { return };
    let (form, text) = (FORMS[usize::from(*form) % FORMS.len()], text(rest));
    if !form.is_list()
        && let Some(written) = told(form.read_text(&text))
    {
        check(form, &written);
    }
    if let Ok(table) = toml::from_str::<toml::Table>(&text) {
        for (_, value) in table {
            if let Some(written) = told(form.read_toml(value)) {
                check(form, &written);
            }
        }
    }
}

fn settings() -> Vec<Vec<u8>> {
    let texts = [
        "true",
        "12",
        "1e-3",
        "5m",
        "1h 30m",
        "8GiB",
        "ward",
        "/data",
        "two",
        "a = [\"x\", \"y\"]",
        "a = [\"x,\"]",
        "a = { x = 1, y = 0.5 }",
        "a = -1",
        "a = \"\"\"x\ny\"\"\"",
        "99999999999999999999y",
        "1e308EiB",
    ];
    let numbered = texts.iter().enumerate();
    numbered.map(|(form, text)| [&[form as u8][..], text.as_bytes()].concat()).collect()
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![Target { name: "setting", run: setting, seeds: settings }]
}
