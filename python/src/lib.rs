//! The native half of Peerfold's Python package: a driver of [`peerfold::run::Run`], and nothing besides.
//!
//! What isn't Rust's business is in `python/peerfold/*.py`, which is all that users import: this module is private to
//! the package, and its names may change. `_native.pyi` describes it for type checkers.
//!
//! | module | what it has |
//! | --- | --- |
//! | `arrays` | weights from NumPy arrays and back |
//! | `errors` | the package's exceptions for Rust's errors |
//! | `events` | the queue between a node, which must not wait, and Python, which may |
//! | `logs` | what is logged, on its way to Python's `logging` |
//! | `node` | a node: its run on a thread of its own, and how Python's threads wait for it |
//! | `options` | settings from Python's values, by the layers' own declarations |
//! | `rules` | the strategies there are, and strategies that are Python objects |
//! | `state` | the training program's state: bytes, or named arrays |

mod arrays;
mod errors;
mod events;
mod logs;
mod node;
mod options;
mod rules;
mod state;

use pyo3::prelude::*;

/// Peerfold's native half. Private: import `peerfold`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<arrays::Buffer>()?;
    module.add_class::<events::Events>()?;
    module.add_class::<node::Node>()?;
    module.add_class::<node::Memory>()?;
    module.add_function(wrap_pyfunction!(logs::follow_logs, module)?)?;
    module.add_function(wrap_pyfunction!(options::settings, module)?)?;
    module.add_function(wrap_pyfunction!(rules::strategies, module)?)?;
    module.add_function(wrap_pyfunction!(rules::check_strategy, module)?)
}
