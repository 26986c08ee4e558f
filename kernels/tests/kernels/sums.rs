//! Sums of columns and of all elements against plain loops.

use crate::plain::{Sum, assert_close, nan, values};
use peerfold_kernels::sums;

const SIDES: [usize; 12] = [1, 2, 3, 7, 16, 19, 64, 65, 100, 257, 2047, 2049];

#[test]
fn columns_are_summed_over_every_row() {
    for columns in SIDES {
        for rows in [0, 1, 2, 5, 63, 64, 65, 130, 700].into_iter().filter(|rows| rows * columns < 200_000) {
            let x = values(rows * columns, rows as u64);
            let mut plain = vec![Sum::default(); columns];
            x.iter().enumerate().for_each(|(place, &x)| plain[place % columns].add(f64::from(x)));
            let mut out = nan(columns);
            sums::columns(&x, &mut out);
            assert_close(&out, &plain, &format!("{rows} rows of {columns}"));
        }
    }
    // One column of many rows is cut into parts as well.
    let x = values(1_000_003, 1);
    let mut plain = Sum::default();
    x.iter().for_each(|&x| plain.add(f64::from(x)));
    let mut out = [0.0];
    sums::columns(&x, &mut out);
    assert_close(&out, &[plain], "one column");
    sums::columns(&[], &mut []);
}

#[test]
fn all_elements_are_summed() {
    for len in [0, 1, 2, 63, 64, 65, 127, 128, 1000, 4095, 4097, 32_768, 100_001, 2_100_001] {
        let x = values(len, len as u64);
        let mut plain = Sum::default();
        x.iter().for_each(|&x| plain.add(f64::from(x)));
        assert_close(&[sums::all(&x)], &[plain], &format!("{len} elements"));
        // Small whole numbers have exact sums.
        let whole: Vec<f32> = (0..len).map(|place| (place % 7) as f32).collect();
        let exact: usize = (0..len).map(|place| place % 7).sum();
        assert_eq!(sums::all(&whole), exact as f32);
    }
}

#[test]
fn a_row_is_added_to_each_row_or_becomes_each() {
    for columns in SIDES {
        for rows in [0, 1, 2, 3, 31, 64, 100] {
            let (row, x) = (values(columns, 1), values(rows * columns, 2));
            let mut out = x.clone();
            sums::add_to_rows(&row, &mut out);
            assert!(out.iter().enumerate().all(|(place, &out)| out == x[place] + row[place % columns]));
            out.fill(f32::NAN);
            sums::fill_rows(&row, &mut out);
            assert!(
                out.iter().enumerate().all(|(place, &out)| out == row[place % columns]),
                "{rows} rows of {columns}"
            );
        }
    }
    sums::add_to_rows(&[], &mut []);
    sums::fill_rows(&[], &mut []);
}
