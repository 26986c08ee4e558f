//! Labelled images in memory.

use std::fmt;

/// Labelled images in memory: what the built-in models are trained on and measured with.
#[derive(Clone, PartialEq)]
pub struct Examples {
    features: Vec<f32>,
    shape: [usize; 3],
    labels: Vec<u8>,
    classes: usize,
}

/// Why features and labels don't make examples.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamplesError {
    /// There are no classes, more than a label can name, or images without a pixel.
    #[error("images of shape {shape:?} in {classes} classes: each side must be at least 1, the classes 1 to 256")]
    Shape {
        /// Channels, height, width.
        shape: [usize; 3],
        /// Classes.
        classes: usize,
    },
    /// Not as many features as labels × pixels.
    #[error("{features} features for {labels} labelled images of shape {shape:?}")]
    Length {
        /// Features given.
        features: usize,
        /// Labels given.
        labels: usize,
        /// Channels, height, width.
        shape: [usize; 3],
    },
    /// A label that isn't one of the classes.
    #[error("example {index} has the label {label}, but there are {classes} classes")]
    Label {
        /// Number of the example.
        index: usize,
        /// Its label.
        label: u8,
        /// Classes.
        classes: usize,
    },
}

impl Examples {
    /// `features` are the pixels, image by image, each row-major in the order channels, height, width; `labels` are
    /// class numbers under `classes` (1 to 256). There may be no examples at all.
    pub fn new(features: Vec<f32>, shape: [usize; 3], labels: Vec<u8>, classes: usize) -> Result<Self, ExamplesError> {
        let pixels = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        let pixels = pixels.filter(|&pixels| pixels > 0 && (1..=256).contains(&classes));
        let pixels = pixels.ok_or(ExamplesError::Shape { shape, classes })?;
        if pixels.checked_mul(labels.len()) != Some(features.len()) {
            return Err(ExamplesError::Length { features: features.len(), labels: labels.len(), shape });
        }
        if let Some(index) = labels.iter().position(|&label| usize::from(label) >= classes) {
            return Err(ExamplesError::Label { index, label: labels[index], classes });
        }
        Ok(Self { features, shape, labels, classes })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels, height and width of each image.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// How many classes there are, whether or not each has an example.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// A hash of all of it, labels and pixels in their order.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 examples v1");
        let sizes = self.shape.into_iter().chain([self.classes, self.labels.len()]);
        sizes.for_each(|size| _ = hasher.update(&(size as u64).to_le_bytes()));
        hasher.update(&self.labels);
        hasher.update(bytemuck::cast_slice(&self.features));
        hasher.finalize().to_hex().to_string()
    }

    /// The class of each example.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The pixels of one image. Panics if there is no such example.
    pub fn image(&self, index: usize) -> &[f32] {
        let pixels = self.shape.iter().product::<usize>();
        &self.features[index * pixels..(index + 1) * pixels]
    }

    /// How many examples each class has.
    pub fn histogram(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        self.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    }

    /// A copy of these examples, in this order. Panics if one doesn't exist.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut features = Vec::with_capacity(indices.len() * self.shape.iter().product::<usize>());
        indices.iter().for_each(|&index| features.extend_from_slice(self.image(index)));
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Self { features, shape: self.shape, labels, classes: self.classes }
    }
}

/// Without the features, which would fill screens.
impl fmt::Debug for Examples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examples").field("len", &self.len()).field("shape", &self.shape).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_an_error() {
        let features = || vec![0.0; 8];
        assert!(Examples::new(features(), [1, 2, 2], vec![0, 1], 2).is_ok());
        assert!(matches!(Examples::new(features(), [1, 2, 2], vec![0], 2), Err(ExamplesError::Length { .. })));
        assert!(matches!(
            Examples::new(features(), [1, 2, 2], vec![0, 2], 2),
            Err(ExamplesError::Label { index: 1, label: 2, classes: 2 })
        ));
        assert!(matches!(Examples::new(vec![], [1, 0, 2], vec![], 2), Err(ExamplesError::Shape { .. })));
        assert!(matches!(Examples::new(vec![], [1, 1, 1], vec![], 257), Err(ExamplesError::Shape { .. })));
        assert!(matches!(Examples::new(vec![], [usize::MAX, 2, 1], vec![], 2), Err(ExamplesError::Shape { .. })));
    }

    #[test]
    fn selected_examples_keep_image_and_label_together() {
        let all = Examples::new((0..12).map(|n| n as f32).collect(), [1, 2, 2], vec![0, 1, 2], 3).unwrap();
        let some = all.select(&[2, 0, 2]);
        assert_eq!(some.labels(), [2, 0, 2]);
        assert_eq!(some.image(0), [8.0, 9.0, 10.0, 11.0]);
        assert_eq!(some.histogram(), [1, 0, 2]);
    }
}
