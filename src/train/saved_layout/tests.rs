//! Linear layers turned between files and burn.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::{train::collect, weights::Annotations};
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::backend::Backend,
};
use std::collections::BTreeSet;

/// Names of the weights of linear layers, as burn's visitor finds them.
#[derive(Default)]
struct Linear {
    path: Vec<(String, String)>,
    found: BTreeSet<String>,
}

impl<B: Backend> ModuleVisitor<B> for Linear {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<burn::tensor::Tensor<B, D>>) {
        let Some((name, container)) = self.path.last() else { return };
        if name == "weight" && container == "Struct:Linear" {
            let names: Vec<&str> = self.path.iter().map(|(name, _)| name.as_str()).collect();
            self.found.insert(names.join("."));
        }
    }
}

fn linear_of<M: Module<Cpu>>(module: &M) -> BTreeSet<String> {
    let mut visitor = Linear::default();
    module.visit(&mut visitor);
    visitor.found
}

#[test]
fn all_linear_layers_of_the_models_are_known() {
    let device = Default::default();
    let named = |model: Model| model.linear_weights().iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(linear_of(&DigitsMlp::<Cpu>::new(&device)), named(Model::Digits));
    assert_eq!(linear_of(&MnistCnn::<Cpu>::new(&device)), named(Model::Mnist));
}

fn digits() -> Weights {
    collect(&DigitsMlp::<Cpu>::new(&Default::default())).unwrap()
}

fn said(weights: &Weights, name: &str, text: &str) -> Weights {
    weights.clone().with_annotations(Annotations::default().with(name, text).unwrap())
}

#[test]
fn a_file_is_read_in_the_layout_that_it_was_saved_in() {
    let weights = said(&digits(), "site", "ward 7");
    for layout in SavedLayout::ALL {
        let saved = layout.save(Model::Digits, &weights).unwrap();
        assert_eq!(saved.annotations().get(LAYOUT_ANNOTATION), Some(layout.name()));
        assert_eq!(saved.annotations().get("site"), Some("ward 7"));
        assert_eq!(saved.annotations().get("format"), (layout == SavedLayout::Torch).then_some("pt"));
        assert_eq!(saved == weights, layout == SavedLayout::Burn);
        // With its metadata, and without.
        let back = from_saved(Model::Digits, &saved).unwrap();
        assert_eq!((&back, back.annotations().get("site")), (&weights, Some("ward 7")));
        assert_eq!(
            from_saved(Model::Digits, &saved.clone().with_annotations(Annotations::default())).unwrap(),
            weights
        );
        for other in SavedLayout::ALL {
            assert_eq!(other.save(Model::Digits, &back).unwrap().layout() == saved.layout(), other == layout);
        }
        // The square one can't be told by its shape: elements say it.
        let element = |weights: &Weights, name: &str, at: usize| {
            let (_, data) = weights.get(name).unwrap();
            f32::from_le_bytes(data[4 * at..4 * at + 4].try_into().unwrap())
        };
        let (row, column) = (3, 60);
        let there = if layout == SavedLayout::Torch { column * 64 + row } else { row * 64 + column };
        assert_eq!(element(&saved, "hidden.weight", there), element(&weights, "hidden.weight", row * 64 + column));
    }
}

#[test]
fn what_metadata_and_shapes_say_must_agree() {
    let burn = digits();
    let error = |weights: Weights| from_saved(Model::Digits, &weights).unwrap_err();
    assert!(matches!(error(said(&burn, LAYOUT_ANNOTATION, "torch")), SavedLayoutError::NotAsSaid { .. }));
    assert!(matches!(error(said(&burn, LAYOUT_ANNOTATION, "keras\u{7}")), SavedLayoutError::Unknown { .. }));
    assert!(!error(said(&burn, LAYOUT_ANNOTATION, "keras\u{7}")).to_string().contains('\u{7}'));
    let other = from_saved(Model::Mnist, &burn).unwrap_err();
    assert!(other.to_string().contains("another model than mnist: conv1.bias"), "{other}");
}

#[test]
fn only_what_is_known_is_turned_for_a_file() {
    let weights = digits();
    let torch = for_file(weights.clone(), None).unwrap();
    assert_eq!(torch.annotations().get(LAYOUT_ANNOTATION), Some("torch"));
    assert_eq!(for_file(torch.clone(), None).unwrap(), torch);
    assert_eq!(for_file(torch, Some(SavedLayout::Burn)).unwrap(), weights);
    let own = Weights::artifact("x").unwrap();
    assert_eq!(for_file(own.clone(), None).unwrap(), own);
    assert_eq!(for_file(own, Some(SavedLayout::Torch)), Err(ForFileError::NoModel));
}
