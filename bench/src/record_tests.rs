//! Medians and ratios.

use std::time::Duration;

use super::{Figure, median, quantiles};

#[test]
fn the_ratio_is_of_one_round_not_of_medians() {
    let figure = Figure {
        payfence: vec![10.0, 20.0, 30.0],
        nginx: vec![20.0, 20.0, 10.0],
        ..Figure::default()
    };
    let (payfence, nginx, ratio) = figure.medians();
    assert_eq!((payfence, nginx, ratio), (20.0, 20.0, 1.0));
    let nothing = Figure { payfence: vec![0.0; 3], nginx: vec![0.0; 3], ..Figure::default() };
    assert_eq!(nothing.medians(), (0.0, 0.0, 1.0));
}

#[test]
fn medians() {
    for (figures, expected) in
        [(vec![], 0.0), (vec![3.0], 3.0), (vec![3.0, 1.0], 2.0), (vec![9.0, 1.0, 2.0], 2.0)]
    {
        assert!((median(&figures) - expected).abs() < 1e-9, "{figures:?}");
    }
}

#[test]
fn quantiles_of_times() {
    let values = |count: u64| -> Vec<f64> {
        let times = (1..=count).rev().map(Duration::from_millis).collect();
        quantiles("a", times).into_iter().map(|row| row.value).collect()
    };
    assert_eq!(values(0), [0.0; 0]);
    assert_eq!(values(1), [1.0; 3]);
    assert_eq!(values(200), [100.0, 198.0, 200.0]);
}
