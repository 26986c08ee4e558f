//! Poolings on Peerfold's backend give what they give on burn's flex backend, except that NaN stays NaN.

use super::alike::{DEVICE, Lies, Ours, Plain, Results, assert_equal, assert_results_alike, tensor};
use burn::{
    backend::{Flex, flex::FlexDevice},
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
        module::{avg_pool1d, avg_pool2d, max_pool1d, max_pool1d_with_indices, max_pool2d, max_pool2d_with_indices},
    },
};
use peerfold::train::Cpu;

/// The result and the gradient of the images.
fn results<B: AutodiffBackend<Device = FlexDevice>, const D: usize>(
    x: Tensor<B::InnerBackend, D>,
    call: impl Fn(Tensor<B, D>) -> Tensor<B, D>,
) -> Results {
    let x = Tensor::<B, D>::from_inner(x).require_grad();
    let y = call(x.clone());
    let projection = tensor(y.dims(), 4);
    let gradients = (y.clone() * projection).sum().backward();
    vec![("result".to_owned(), y.into_data()), ("gradient".to_owned(), x.grad(&gradients).unwrap().into_data())]
}

fn row_major<B: Backend<Device = FlexDevice>, const D: usize>(tensor: Tensor<Cpu, D>) -> Tensor<B, D> {
    Tensor::from_data(tensor.into_data(), &DEVICE)
}

type Geometry = ([usize; 4], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

/// Shape, kernel, stride, padding, dilation.
const GEOMETRIES: [Geometry; 9] = [
    ([2, 5, 6, 8], [2, 2], [2, 2], [0, 0], [1, 1]),
    ([2, 19, 7, 9], [2, 2], [2, 2], [0, 0], [1, 1]),
    ([1, 3, 8, 7], [3, 3], [2, 2], [1, 1], [1, 1]),
    ([3, 16, 5, 9], [3, 2], [1, 3], [1, 0], [1, 1]),
    ([2, 4, 9, 6], [2, 3], [3, 1], [1, 1], [2, 2]),
    ([2, 1, 5, 5], [2, 2], [3, 3], [0, 0], [1, 1]),
    ([2, 17, 4, 4], [4, 4], [4, 4], [0, 0], [1, 1]),
    ([2, 3, 5, 4], [1, 1], [2, 2], [0, 0], [1, 1]),
    ([2, 3, 6, 5], [4, 5], [3, 2], [2, 2], [1, 1]),
];

#[test]
fn maximum_pooling_is_flexs() {
    for (shape, kernel, stride, padding, dilation) in GEOMETRIES {
        for ceil in [false, true] {
            for lies in Lies::ALL {
                let what =
                    format!("maxima of {shape:?}, {kernel:?}, {stride:?}, {padding:?}, {dilation:?}, {ceil}, {lies:?}");
                let x: Tensor<Cpu, 4> = lies.tensor(shape, 1);
                let plain = results::<Plain, 4>(row_major(x.clone()), |x| {
                    max_pool2d(x, kernel, stride, padding, dilation, ceil)
                });
                let ours = results::<Ours, 4>(x.clone(), |x| max_pool2d(x, kernel, stride, padding, dilation, ceil));
                assert_results_alike(&ours, &plain, &what);
                let [(name, ours), (_, plain)] = [&ours[0], &plain[0]];
                assert_equal(ours, plain, name);
            }
        }
    }
}

#[test]
fn the_places_of_the_maxima_are_flexs() {
    for (shape, kernel, stride, padding, dilation) in GEOMETRIES {
        for ceil in [false, true] {
            for lies in Lies::ALL {
                // Few values, so that many are equal.
                let x: Tensor<Cpu, 4> = (lies.tensor(shape, 1) * 2.0).round();
                let (ours, places) = max_pool2d_with_indices(x.clone(), kernel, stride, padding, dilation, ceil);
                let (plain, plain_places) =
                    max_pool2d_with_indices(row_major::<Flex, 4>(x), kernel, stride, padding, dilation, ceil);
                let what = format!("{shape:?}, {kernel:?}, {stride:?}, {padding:?}, {dilation:?}, {ceil}, {lies:?}");
                assert_equal(&ours.into_data(), &plain.into_data(), &what);
                assert_equal(&places.clone().into_data(), &plain_places.clone().into_data(), &what);
                // They are tensors like any others.
                assert_equal(&(places + 1).into_data(), &(plain_places + 1).into_data(), &what);
            }
        }
    }
}

#[test]
fn average_pooling_is_flexs() {
    for (shape, kernel, stride, padding, _) in GEOMETRIES {
        for (ceil, counted) in [(false, false), (false, true), (true, false), (true, true)] {
            for lies in Lies::ALL {
                let what =
                    format!("means of {shape:?}, {kernel:?}, {stride:?}, {padding:?}, {ceil}, {counted}, {lies:?}");
                let x: Tensor<Cpu, 4> = lies.tensor(shape, 1);
                let plain = results::<Plain, 4>(row_major(x.clone()), |x| {
                    avg_pool2d(x, kernel, stride, padding, counted, ceil)
                });
                let ours = results::<Ours, 4>(x, |x| avg_pool2d(x, kernel, stride, padding, counted, ceil));
                // Flex's gradient divides by the whole window where its mean divides by the part within the padding.
                let known = if ceil && counted { 1 } else { 2 };
                assert_results_alike(&ours[..known], &plain[..known], &what);
            }
        }
    }
}

#[test]
fn poolings_of_signals_are_flexs() {
    for (shape, [kernel, stride, padding, dilation]) in
        [([2, 5, 12], [3, 2, 1, 1]), ([1, 17, 9], [2, 2, 0, 1]), ([3, 4, 10], [3, 1, 1, 2]), ([2, 3, 7], [2, 3, 0, 1])]
    {
        let [n, c, l] = shape;
        for x in [
            tensor::<Cpu, 3>(shape, 1),
            tensor::<Cpu, 3>([n, l, c], 1).swap_dims(1, 2),
            tensor::<Cpu, 3>(shape, 1).flip([2]),
        ] {
            for ceil in [false, true] {
                let what = format!("{shape:?}, {kernel}, {stride}, {padding}, {dilation}, {ceil}");
                let plain = results::<Plain, 3>(row_major(x.clone()), |x| {
                    max_pool1d(x, kernel, stride, padding, dilation, ceil)
                });
                let ours = results::<Ours, 3>(x.clone(), |x| max_pool1d(x, kernel, stride, padding, dilation, ceil));
                assert_results_alike(&ours, &plain, &what);
                let (_, places) = max_pool1d_with_indices(x.clone(), kernel, stride, padding, dilation, ceil);
                let (_, plain) =
                    max_pool1d_with_indices(row_major::<Flex, 3>(x.clone()), kernel, stride, padding, dilation, ceil);
                assert_equal(&places.into_data(), &plain.into_data(), &what);
                for counted in [false, true] {
                    let plain = results::<Plain, 3>(row_major(x.clone()), |x| {
                        avg_pool1d(x, kernel, stride, padding, counted, ceil)
                    });
                    let ours = results::<Ours, 3>(x.clone(), |x| avg_pool1d(x, kernel, stride, padding, counted, ceil));
                    let known = if ceil && counted { 1 } else { 2 };
                    assert_results_alike(&ours[..known], &plain[..known], &what);
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_is_the_greatest() {
    let mut values = vec![0.0_f32; 16];
    values[6] = f32::NAN;
    let x = Tensor::<Cpu, 1>::from_floats(values.as_slice(), &DEVICE).reshape([1, 1, 4, 4]);
    let (y, places) = max_pool2d_with_indices(x, [2, 2], [2, 2], [0, 0], [1, 1], false);
    let y = y.into_data().to_vec::<f32>().unwrap();
    assert!(y[1].is_nan() && [0, 2, 3].iter().all(|&place| y[place] == 0.0));
    assert_eq!(places.into_data().iter::<i64>().collect::<Vec<_>>(), [0, 6, 8, 10]);
}
