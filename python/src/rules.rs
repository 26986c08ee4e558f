//! The strategies there are, and strategies that are Python objects.

use crate::{
    arrays::{self, Given},
    errors::Failure,
};
use peerfold::{
    node::StrategyChoice,
    strategy::{FoldError, Folded, Round, STRATEGIES, Strategy, StrategySpec, TENSOR_PARAMETERS},
    weights::{Weights, read_all},
};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyList},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

/// A parameter: name, default in words, meaning.
type Parameter = (&'static str, &'static str, &'static str);

/// The rules of the registry: name, other names, summary, paper, parameters, and parameters of single tensors.
type Described = (&'static str, Vec<&'static str>, &'static str, &'static str, Vec<Parameter>, Vec<Parameter>);

/// What the registry says of each rule.
#[pyfunction]
pub(crate) fn strategies() -> Vec<Described> {
    let parameter = |known: &peerfold::strategy::ParameterInfo| (known.name, known.default, known.meaning);
    let tensors: Vec<Parameter> = TENSOR_PARAMETERS.iter().map(parameter).collect();
    let described = STRATEGIES.iter().map(|info| {
        let own = info.parameters.iter().map(parameter).collect();
        (info.name, info.aliases.to_vec(), info.summary, info.paper, own, tensors.clone())
    });
    described.collect()
}

fn spec(name: &str, params: BTreeMap<String, String>) -> StrategySpec {
    StrategySpec { name: name.to_owned(), params }
}

/// Raises `StrategyError` if there is no such rule, or it can't have these parameters.
#[pyfunction]
pub(crate) fn check_strategy(name: &str, params: BTreeMap<String, String>) -> PyResult<()> {
    spec(name, params).build().map(drop).map_err(|error| Failure::from(error).into())
}

/// The rule that Python asks for: a name with parameters, or a name with an object of `peerfold._rules.Rule`.
#[derive(FromPyObject)]
pub(crate) enum GivenRule<'py> {
    /// One of the registry.
    Named(String, BTreeMap<String, String>),
    /// An object.
    Own(String, Bound<'py, PyAny>),
}

impl GivenRule<'_> {
    /// The choice for a node. Errors if the registry has no such rule.
    pub(crate) fn choice(self) -> Result<StrategyChoice, Failure> {
        match self {
            Self::Named(name, params) => {
                let spec = spec(&name, params);
                spec.build()?;
                Ok(spec.into())
            }
            Self::Own(name, object) => {
                let (name, object) = (interned(name), object.unbind());
                Ok(StrategyChoice::Own(std::sync::Arc::new(move || {
                    let object = Python::attach(|py| object.clone_ref(py));
                    Box::new(PythonRule { name, object })
                })))
            }
        }
    }
}

/// The same name for as long as the process lives. A program has a few classes of rules.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = name.leak();
    names.insert(name);
    name
}

/// A rule that is a Python object. It is called on a blocking thread of the node's, while the thread that waits for the
/// fold has released the GIL.
struct PythonRule {
    name: &'static str,
    object: Py<PyAny>,
}

impl PythonRule {
    fn failed(&self, what: impl Into<String>) -> FoldError {
        FoldError::Own { strategy: self.name, what: what.into() }
    }

    /// Calls with the GIL; if Python raises, the error has its traceback.
    fn call<T>(&self, work: impl FnOnce(Python<'_>, &Bound<'_, PyAny>) -> PyResult<T>) -> Result<T, String> {
        let called = Python::try_attach(|py| work(py, self.object.bind(py)).map_err(|error| told(py, &error)));
        called.unwrap_or_else(|| Err("the interpreter has ended".to_owned()))
    }
}

/// An exception with its traceback.
fn told(py: Python<'_>, error: &PyErr) -> String {
    let formatted = py.import("traceback").and_then(|traceback| {
        let raised = (error.get_type(py), error.value(py), error.traceback(py));
        let lines = traceback.call_method1("format_exception", raised)?;
        lines.try_iter()?.map(|line| line?.extract::<String>()).collect::<PyResult<String>>()
    });
    formatted.map_or_else(|_| error.to_string(), |lines| lines.trim_end().to_owned())
}

impl Strategy for PythonRule {
    fn name(&self) -> &'static str {
        self.name
    }

    /// Whatever goes wrong here the object remembers, and raises at the next fold.
    fn begin(&mut self, initial: &Weights) {
        let begun = self.call(|py, object| object.call_method1("begin", (arrays::views(py, initial)?,)).map(drop));
        _ = begun;
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        let first = round.updates.iter().find(|update| update.own).or(round.updates.first());
        let layout = first.ok_or(FoldError::NoUpdates)?.weights.layout();
        let mut read = Vec::new();
        for update in round.updates {
            let failed = |source| FoldError::Read { author: update.author, source };
            read.push(read_all(update.weights).map_err(failed)?);
        }
        let called = self.call(|py, object| {
            let updates = PyList::empty(py);
            for (update, weights) in round.updates.iter().zip(&read) {
                let metrics: BTreeMap<&str, f64> =
                    update.metrics.iter().map(|metric| (metric.name.as_str(), metric.value)).collect();
                let tensors: Bound<'_, PyList> = arrays::views(py, weights)?;
                let (author, epoch, staleness) = (update.author.to_string(), update.epoch, update.staleness);
                updates.append((author, update.own, update.num_examples, epoch, staleness, metrics, tensors))?;
            }
            let folded = object.call_method1("fold", (round.number, round.failures, updates))?;
            let (tensors, shares): (Vec<Given<'_>>, Vec<f64>) = folded.extract()?;
            Ok((arrays::weights_of(tensors)?, shares))
        });
        let (weights, shares) = called.map_err(|what| self.failed(what))?;
        if let Some(difference) = layout.difference(weights.layout()) {
            return Err(self.failed(format!("what it has folded has another layout: {difference}")));
        }
        if shares.len() != round.updates.len() {
            let (shares, updates) = (shares.len(), round.updates.len());
            return Err(self.failed(format!("it gave {shares} shares for {updates} updates")));
        }
        Ok(Folded::new(weights, shares))
    }

    fn save(&self) -> Vec<u8> {
        let saved = self.call(|_, object| {
            let saved = object.call_method0("save")?;
            Ok(saved.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes().to_vec())
        });
        // The object answers with what it has saved before if saving fails.
        saved.unwrap_or_default()
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.save())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        let restored = self.call(|py, object| object.call_method1("restore", (PyBytes::new(py, state),)).map(drop));
        restored.map_err(|what| FoldError::State { strategy: self.name, what })
    }
}
