//! Any number of threads gives the same bits.

use crate::plain::{bits, nan, values};
use peerfold_kernels::{
    adam::{Parameters, Step, step},
    convolution::Convolution,
    matrix::{Matrix, MatrixMut, Onto, Threads, multiply},
    pooling::Pooling,
    rectifier, sums, transpose,
    window::Window,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

fn pools() -> &'static [ThreadPool; 4] {
    static POOLS: OnceLock<[ThreadPool; 4]> = OnceLock::new();
    POOLS.get_or_init(|| [1, 2, 3, 8].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap()))
}

#[track_caller]
fn assert_alike(what: &str, work: impl Fn() -> Vec<f32> + Sync) {
    let of = |pool: &ThreadPool| bits(&pool.install(&work));
    let [alone, others @ ..] = pools();
    let alone = of(alone);
    for pool in others {
        assert!(of(pool) == alone, "{what} with {} threads", pool.current_num_threads());
    }
}

fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, padding, dilation }
}

#[test]
fn convolutions_are_alike() {
    let convolutions = [
        (9, [28, 27], [17, 23, 1], window([3, 3], [1, 1], [1, 1], [1, 1])),
        (1, [61, 57], [19, 21, 1], window([3, 3], [1, 1], [1, 1], [1, 1])),
        (7, [30, 31], [12, 18, 3], window([3, 2], [2, 1], [1, 1], [1, 2])),
        (7, [32, 33], [21, 21, 21], window([3, 3], [1, 1], [1, 1], [1, 1])),
        (33, [28, 28], [1, 9, 1], window([5, 5], [1, 1], [2, 2], [1, 1])),
        (5, [31, 29], [40, 37, 1], window([1, 1], [1, 1], [0, 0], [1, 1])),
        // Weights of which there is one sum, whose products are shared.
        (3, [8, 8], [241, 257, 1], window([3, 3], [1, 1], [1, 1], [1, 1])),
    ];
    for (batch, input, [channels_in, channels_out, groups], window) in convolutions {
        let convolution = Convolution { batch, input, channels_in, channels_out, groups, window };
        let what = format!("{convolution:?}");
        let images = values(convolution.input_len(), 1);
        let weight = values(convolution.weight_len(), 2);
        let bias = values(channels_out, 3);
        let gradient = values(convolution.output_len(), 4);
        assert_alike(&what, || {
            let mut out = nan(gradient.len());
            convolution.forward(&images, &weight, Some(&bias), &mut out);
            out
        });
        assert_alike(&what, || {
            let mut out = nan(images.len());
            convolution.input_gradient(&weight, &gradient, &mut out);
            out
        });
        assert_alike(&what, || {
            let mut out = nan(weight.len());
            convolution.weight_gradient(&images, &gradient, &mut out);
            out
        });
        assert_alike(&what, || {
            let mut out = nan(bias.len());
            convolution.bias_gradient(&gradient, &mut out);
            out
        });
    }
}

#[test]
fn poolings_are_alike() {
    for window in [window([2, 2], [2, 2], [0, 0], [1, 1]), window([3, 3], [2, 1], [1, 1], [1, 2])] {
        let (batch, input, channels) = (9, [30, 28], 21);
        let pooling = Pooling { batch, input, channels, window, output: window.positions(input) };
        let (images, gradient) = (values(pooling.input_len(), 1), values(pooling.output_len(), 2));
        assert_alike(&format!("maxima of {pooling:?}"), || {
            let (mut out, mut places) = (nan(gradient.len()), vec![0; gradient.len()]);
            pooling.maxima(&images, &mut out, &mut places);
            let mut of_images = nan(images.len());
            pooling.maxima_gradient(&gradient, &places, &mut of_images);
            out.extend(places.iter().map(|&place| place as f32));
            [out, of_images].concat()
        });
        for count_padding in [false, true] {
            assert_alike(&format!("means of {pooling:?}"), || {
                let (mut out, mut of_images) = (nan(gradient.len()), nan(images.len()));
                pooling.means(&images, count_padding, &mut out);
                pooling.means_gradient(&gradient, count_padding, &mut of_images);
                [out, of_images].concat()
            });
        }
    }
}

#[test]
fn products_are_alike() {
    for [rows, depth, columns] in [
        [128, 800, 300],
        [1, 4000, 500],
        [500, 4000, 1],
        [3, 2, 70_000],
        [64, 64, 64],
        [257, 129, 255],
        [7, 100_000, 9],
    ] {
        let (lhs, rhs, before) = (values(rows * depth, 1), values(depth * columns, 2), values(rows * columns, 3));
        let plain = [Matrix::rows(&lhs, rows, depth), Matrix::rows(&rhs, depth, columns)];
        let turned = [Matrix::new(&lhs, [rows, depth], [1, rows]), Matrix::new(&rhs, [depth, columns], [1, depth])];
        for left in [plain[0], turned[0]] {
            for right in [plain[1], turned[1]] {
                assert_alike(&format!("{rows} × {depth} × {columns}"), || {
                    let mut shared = before.clone();
                    multiply(MatrixMut::rows(&mut shared, rows, columns), Onto::Sum, left, right, Threads::All);
                    let mut alone = before.clone();
                    multiply(MatrixMut::rows(&mut alone, rows, columns), Onto::Sum, left, right, Threads::One);
                    assert!(bits(&shared) == bits(&alone), "{rows} × {depth} × {columns} by all and by one");
                    shared
                });
            }
        }
    }
}

#[test]
fn sums_copies_and_steps_are_alike() {
    let x = values(300_007, 1);
    assert_alike("the sum of all", || vec![sums::all(&x)]);
    for columns in [1, 19, 300, 100_000] {
        let x = &x[..x.len() / columns * columns];
        assert_alike("columns", || {
            let mut out = nan(columns);
            sums::columns(x, &mut out);
            out
        });
    }
    assert_alike("a copy", || {
        let mut out = nan(61 * 70 * 70);
        transpose::to_row_major(&x, &[70, 61, 70], &[61, 1, 4270], &mut out);
        out
    });
    assert_alike("ReLU", || {
        let mut out = nan(x.len());
        rectifier::forward(&x, &mut out);
        let mut gradient = x.iter().rev().copied().collect::<Vec<_>>();
        rectifier::backward(&out, &mut gradient);
        [out, gradient].concat()
    });
    assert_alike("a step of Adam", || {
        let [mut weights, mut moment_1, mut moment_2] = [(); 3].map(|()| x.clone());
        moment_2.iter_mut().for_each(|moment| *moment = moment.abs());
        let parameters = Parameters { weights: &mut weights, moment_1: &mut moment_1, moment_2: &mut moment_2 };
        step(parameters, &x, Step { learning_rate: 0.1, beta_1: 0.9, beta_2: 0.99, epsilon: 1e-5, time: 3 });
        [weights, moment_1, moment_2].concat()
    });
}
