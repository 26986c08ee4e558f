//! The layout of linear layers in a saved file: PyTorch's or burn's.
//!
//! burn computes `x @ W + b` with W of the shape [inputs, outputs], PyTorch `x @ W.T + b` with [outputs, inputs]. A
//! square W has the same shape in both, so the wrong one would be loaded silently. Nodes exchange what burn has; files
//! for others are PyTorch's unless burn's is asked for, and say in their metadata which they are.

use super::{Cpu, DigitsMlp, MnistCnn, Model, layout_of};
use crate::{
    settings::named,
    weights::{AnnotationsError, Layout, Tensor, TensorSpec, Weights},
};
use bytes::Bytes;
use std::{borrow::Cow, fmt, str::FromStr};

/// The name under which a file's metadata says how its linear layers lie.
pub const LAYOUT_ANNOTATION: &str = "peerfold.layout";
/// The name and the text with which files from PyTorch's libraries say where they come from.
const FORMAT: (&str, &str) = ("format", "pt");

/// How the weights of linear layers lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SavedLayout {
    /// [outputs, inputs], as PyTorch's `Linear` has them.
    #[default]
    Torch,
    /// [inputs, outputs], as burn's `Linear` has them, and Keras' `Dense`.
    Burn,
}

named!(SavedLayout);

/// A name that no layout has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no layout {name:?}; the layouts are torch and burn")]
pub struct ParseSavedLayoutError {
    /// The name.
    pub name: String,
}

/// Why a file's weights are not a built-in model's, as a sentence about the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SavedLayoutError {
    /// Other tensors.
    #[error("is of another model than {model}: {difference}")]
    OtherModel {
        /// The model.
        model: Model,
        /// The first difference.
        difference: String,
    },
    /// The tensors are not as the metadata says.
    #[error("says {LAYOUT_ANNOTATION} = {said} in its metadata, but its tensors are others: {difference}")]
    NotAsSaid {
        /// What it says.
        said: SavedLayout,
        /// The first difference.
        difference: String,
    },
    /// The metadata names an unknown layout.
    #[error("says {LAYOUT_ANNOTATION} = {said:?} in its metadata, which is neither torch nor burn")]
    Unknown {
        /// What it says.
        said: String,
    },
    /// Nothing says which of the two it is, because all linear layers are square.
    #[error(
        "has square linear layers only, and doesn't say whether they are [out, in] or [in, out]; write \
         {LAYOUT_ANNOTATION} = torch or burn into its metadata"
    )]
    Undecided,
}

impl SavedLayout {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Torch, Self::Burn];

    /// Its name on the command line and in metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Torch => "torch",
            Self::Burn => "burn",
        }
    }

    /// Weights of a model, as burn has them, for a file in this layout, which its metadata says. Other annotations stay;
    /// errors if there is no room for one more.
    pub fn save(self, model: Model, weights: &Weights) -> Result<Weights, AnnotationsError> {
        let is_torch = weights.annotations().get(FORMAT.0) == Some(FORMAT.1);
        let annotations = weights.annotations().with(LAYOUT_ANNOTATION, self.name())?;
        match self {
            Self::Torch => {
                let format = annotations.get(FORMAT.0).unwrap_or(FORMAT.1);
                let annotations = annotations.with(FORMAT.0, format)?;
                Ok(transposed(model, weights).with_annotations(annotations))
            }
            Self::Burn if is_torch => Ok(weights.clone().with_annotations(annotations.without(FORMAT.0))),
            Self::Burn => Ok(weights.clone().with_annotations(annotations)),
        }
    }
}

/// A model's weights from a file, in burn's layout. Annotations stay, except for the one that names the layout.
///
/// The metadata decides in which layout the file is. If it doesn't, the shapes decide, because every built-in model has
/// a linear layer that isn't square. If they can't, it is an error rather than a guess.
pub fn from_saved(model: Model, saved: &Weights) -> Result<Weights, SavedLayoutError> {
    let annotations = saved.annotations();
    let said = annotations.get(LAYOUT_ANNOTATION);
    let said: Option<SavedLayout> =
        said.map(|said| said.parse().map_err(|_| SavedLayoutError::Unknown { said: said.to_owned() })).transpose()?;
    let burn = model.layout();
    let torch = transposed_layout(model, &burn);
    let [not_burn, not_torch] = [&burn, &torch].map(|layout| layout.difference(saved.layout()));
    let layout = match (said, not_burn, not_torch) {
        (Some(SavedLayout::Burn), None, _) | (None, None, Some(_)) => SavedLayout::Burn,
        (Some(SavedLayout::Torch), _, None) | (None, Some(_), None) => SavedLayout::Torch,
        (None, None, None) if annotations.get(FORMAT.0) == Some(FORMAT.1) => SavedLayout::Torch,
        (None, None, None) => return Err(SavedLayoutError::Undecided),
        (None, Some(difference), Some(_)) | (Some(_), Some(_), Some(difference)) => {
            return Err(SavedLayoutError::OtherModel { model, difference });
        }
        (Some(said), Some(difference), None) | (Some(said), None, Some(difference)) => {
            return Err(SavedLayoutError::NotAsSaid { said, difference });
        }
    };
    let weights = match layout {
        SavedLayout::Burn => saved.clone(),
        SavedLayout::Torch => transposed(model, saved),
    };
    Ok(weights.with_annotations(annotations.without(LAYOUT_ANNOTATION)))
}

/// Weights out of a folder for a file. Those of a built-in model, as nodes publish them, are saved in this layout, in
/// PyTorch's if none is asked for. All else stays as it is, as does what says its own layout if none is asked for.
///
/// Errors if a layout is asked for and the weights are no built-in model's, or not what they say.
pub fn for_file(weights: Weights, layout: Option<SavedLayout>) -> Result<Weights, ForFileError> {
    let said = weights.annotations().get(LAYOUT_ANNOTATION).is_some();
    if layout.is_none() && said {
        return Ok(weights);
    }
    let fits = |model: &Model| {
        let burn = model.layout();
        let torch = transposed_layout(*model, &burn);
        [&burn, &torch].into_iter().any(|layout| *layout == **weights.layout())
    };
    let Some(model) = Model::ALL.into_iter().find(fits) else {
        return if layout.is_some() { Err(ForFileError::NoModel) } else { Ok(weights) };
    };
    Ok(layout.unwrap_or_default().save(model, &from_saved(model, &weights)?)?)
}

/// Why weights can't be saved in the layout that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForFileError {
    /// Which layers are linear is known only for the built-in models.
    #[error("this value is of no built-in model, so that only its author knows which layers are linear")]
    NoModel,
    /// Not what they say.
    #[error("this value {0}")]
    Layout(#[from] SavedLayoutError),
    /// No room for the annotation.
    #[error("this value has {0}")]
    Annotations(#[from] AnnotationsError),
}

impl Model {
    /// Names of the weights of its linear layers.
    pub const fn linear_weights(self) -> &'static [&'static str] {
        match self {
            Self::Digits => &["hidden.weight", "output.weight"],
            Self::Mnist => &["dense.weight"],
        }
    }

    /// Names, dtypes and shapes of its weights, as burn has them.
    pub fn layout(self) -> Layout {
        let device = Default::default();
        let layout = match self {
            Self::Digits => layout_of(&DigitsMlp::<Cpu>::new(&device)),
            Self::Mnist => layout_of(&MnistCnn::<Cpu>::new(&device)),
        };
        layout.expect("f32 tensors with the names of fields")
    }

    fn is_linear(self, spec: &TensorSpec) -> bool {
        spec.shape.len() == 2 && self.linear_weights().contains(&spec.name.as_str())
    }
}

/// The layout with the weights of linear layers the other way round.
fn transposed_layout(model: Model, layout: &Layout) -> Layout {
    let turned = layout.tensors().iter().map(|spec| turned(model, spec).into_owned());
    Layout::new(turned.collect()).expect("the same names and sizes")
}

fn turned(model: Model, spec: &TensorSpec) -> Cow<'_, TensorSpec> {
    if !model.is_linear(spec) {
        return Cow::Borrowed(spec);
    }
    let shape = spec.shape.iter().rev().copied().collect();
    Cow::Owned(TensorSpec { shape, ..spec.clone() })
}

/// The weights of linear layers the other way round; all else stays.
fn transposed(model: Model, weights: &Weights) -> Weights {
    let tensors = weights.tensors().map(|(spec, data)| {
        let data = if model.is_linear(spec) { transposed_bytes(spec, data) } else { data.clone() };
        Tensor { spec: turned(model, spec).into_owned(), data }
    });
    let turned = Weights::new(tensors.collect()).expect("the same names and sizes");
    turned.with_annotations(weights.annotations().clone())
}

/// The elements of a matrix, column by column.
fn transposed_bytes(spec: &TensorSpec, data: &Bytes) -> Bytes {
    let size = spec.dtype.size() as usize;
    let [rows, columns] = [spec.shape[0], spec.shape[1]].map(|side| side as usize);
    let mut turned = Vec::with_capacity(data.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            turned.extend_from_slice(&data[at..at + size]);
        }
    }
    turned.into()
}

impl fmt::Display for SavedLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SavedLayout {
    type Err = ParseSavedLayoutError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let layout = Self::ALL.into_iter().find(|layout| layout.name() == name);
        layout.ok_or_else(|| ParseSavedLayoutError { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests;
