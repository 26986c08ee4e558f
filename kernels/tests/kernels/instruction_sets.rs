//! Every instruction set gives the same bits.

use crate::plain::{bits, nan, values};
use peerfold_kernels::{
    convolution::Convolution, instructions, pooling::Pooling, rectifier, sums, transpose, window::Window,
};

/// In a pool of one thread: the choice is that of the thread alone.
#[track_caller]
fn assert_alike(what: &str, work: impl Fn() -> Vec<f32> + Sync) {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let all = instructions::all();
    let [plain, others @ ..] = all.as_slice() else { unreachable!() };
    let of = |arch| bits(&alone.install(|| instructions::with(arch, &work)));
    let plain = of(*plain);
    for arch in others {
        assert!(of(*arch) == plain, "{what} with {arch:?}");
    }
}

fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, padding, dilation }
}

#[test]
fn every_instruction_set_convolves_alike() {
    for (input, [channels_in, channels_out, groups], window) in [
        ([9, 8], [17, 5, 1], window([3, 3], [1, 1], [1, 1], [1, 1])),
        ([9, 8], [12, 6, 3], window([3, 2], [2, 1], [1, 2], [1, 2])),
        ([9, 8], [37, 37, 37], window([3, 3], [1, 1], [1, 1], [1, 1])),
        ([9, 8], [19, 19, 19], window([2, 3], [1, 2], [2, 0], [2, 1])),
        ([19, 18], [1, 5, 1], window([5, 4], [1, 3], [2, 2], [1, 1])),
        ([17, 15], [40, 36, 1], window([3, 3], [1, 1], [1, 1], [1, 1])),
    ] {
        let convolution = Convolution { batch: 9, input, channels_in, channels_out, groups, window };
        let images = values(convolution.input_len(), 1);
        let weight = values(convolution.weight_len(), 2);
        let (bias, gradient) = (values(channels_out, 3), values(convolution.output_len(), 4));
        assert_alike(&format!("{convolution:?}"), || {
            let [mut output, mut of_images, mut of_weight, mut of_bias] =
                [gradient.len(), images.len(), weight.len(), bias.len()].map(nan);
            convolution.forward(&images, &weight, Some(&bias), &mut output);
            convolution.input_gradient(&weight, &gradient, &mut of_images);
            convolution.weight_gradient(&images, &gradient, &mut of_weight);
            convolution.bias_gradient(&gradient, &mut of_bias);
            [output, of_images, of_weight, of_bias].concat()
        });
    }
}

#[test]
fn every_instruction_set_pools_alike() {
    for window in [window([2, 2], [2, 2], [0, 0], [1, 1]), window([3, 3], [2, 1], [1, 1], [1, 2])] {
        let (input, channels) = ([10, 9], 37);
        let pooling = Pooling { batch: 3, input, channels, window, output: window.positions(input) };
        let (mut images, gradient) = (values(pooling.input_len(), 1), values(pooling.output_len(), 2));
        images.iter_mut().step_by(13).for_each(|value| *value = 0.0);
        images.iter_mut().step_by(17).for_each(|value| *value = -0.0);
        assert_alike(&format!("{pooling:?}"), || {
            let (mut maxima, mut places) = (nan(gradient.len()), vec![0; gradient.len()]);
            let [mut means, mut of_maxima, mut of_means] = [gradient.len(), images.len(), images.len()].map(nan);
            pooling.maxima(&images, &mut maxima, &mut places);
            pooling.maxima_gradient(&gradient, &places, &mut of_maxima);
            pooling.means(&images, false, &mut means);
            pooling.means_gradient(&gradient, true, &mut of_means);
            maxima.extend(places.iter().map(|&place| place as f32));
            [maxima, of_maxima, means, of_means].concat()
        });
    }
}

#[test]
fn every_instruction_set_sums_copies_and_rectifies_alike() {
    let mut x = values(30_011, 1);
    x[..4].copy_from_slice(&[-0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY, -1e-45]);
    let finite = &x[4..];
    assert_alike("sums", || {
        let mut columns = nan(37);
        sums::columns(&finite[..37 * 800], &mut columns);
        columns.push(sums::all(finite));
        columns
    });
    assert_alike("copies", || {
        let mut out = nan(30 * 20 * 50);
        transpose::to_row_major(&x, &[50, 30, 20], &[20, 1000, 1], &mut out);
        let mut turned = nan(out.len());
        transpose::to_row_major(&x, &[20, 50, 30], &[1, 20, 1000], &mut turned);
        [out, turned].concat()
    });
    assert_alike("ReLU", || {
        let mut out = nan(x.len());
        rectifier::forward(&x, &mut out);
        let mut gradient = x.clone();
        gradient.reverse();
        rectifier::backward(&out, &mut gradient);
        [out, gradient].concat()
    });
}
