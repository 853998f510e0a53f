//! Medians and ratios.

use super::{Figure, median};

#[test]
fn the_ratio_is_of_one_round_not_of_medians() {
    let figure = Figure {
        payfence: vec![10.0, 20.0, 30.0],
        nginx: vec![20.0, 20.0, 10.0],
        ..Figure::default()
    };
    let (payfence, nginx, ratio) = figure.medians();
    assert_eq!((payfence, nginx, ratio), (20.0, 20.0, 1.0));
}

#[test]
fn medians() {
    for (figures, expected) in
        [(vec![], 0.0), (vec![3.0], 3.0), (vec![3.0, 1.0], 2.0), (vec![9.0, 1.0, 2.0], 2.0)]
    {
        assert!((median(&figures) - expected).abs() < 1e-9, "{figures:?}");
    }
}
