use super::{missed, row};

#[test]
fn what_is_past_its_bound_or_was_not_measured_is_missed() {
    let bounds = [("p99", 100.0), ("refused", 0.0)];
    let figures = |waves: &[(f64, f64)]| -> Vec<_> {
        let of = |(p99, refused): &(f64, f64)| {
            [row("a: p99", *p99, "ms"), row("a: refused", *refused, "")]
        };
        waves.iter().flat_map(of).collect()
    };
    let cases: [(&[(f64, f64)], usize); 6] = [
        (&[(100.0, 0.0)], 0),
        (&[(100.1, 0.0)], 1),
        (&[(f64::NAN, 0.0)], 1),
        (&[(1.0, 0.0), (170.0, 0.0)], 1),
        (&[(170.0, 11.0), (207.0, 0.0)], 3),
        (&[], 2),
    ];
    for (waves, expected) in cases {
        let missed = missed(&figures(waves), &bounds);
        assert_eq!(missed.len(), expected, "{waves:?}: {missed:?}");
    }
}
